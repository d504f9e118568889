"""The messages of etcd's v3 API, as tables: what each is called, what it holds, and under which numbers.

The idea: on the wire a protobuf message is nothing but numbers and types, so a table of them is the whole protocol. One
line is one message, one word one field: `name:type:number`; `*type` is a repeated field, `group|name:type:number` one
of several of which at most one is set. A type that is not a scalar is a message or an enum of any package here. The
values of an enum are numbered from 0 in the order of its line; a dotted one lies inside that message.

The rule: numbers never change. They are those of etcd 3.4, with the few fields that 3.5 has added (`hashedPassword`,
`linearizable`, the requests AuthStatus and Downgrade): an older client does not see them, a newer one needs them.

Source: the API of etcd 3.4 and 3.5.
"""

from __future__ import annotations

from typing import Final

ENUMS: Final = {
    "mvccpb": """
        Event.EventType PUT DELETE
    """,
    "authpb": """
        Permission.Type READ WRITE READWRITE
    """,
    "etcdserverpb": """
        AlarmType NONE NOSPACE CORRUPT
        AlarmRequest.AlarmAction GET ACTIVATE DEACTIVATE
        Compare.CompareResult EQUAL GREATER LESS NOT_EQUAL
        Compare.CompareTarget VERSION CREATE MOD VALUE LEASE
        DowngradeRequest.DowngradeAction VALIDATE ENABLE CANCEL
        RangeRequest.SortOrder NONE ASCEND DESCEND
        RangeRequest.SortTarget KEY VERSION CREATE MOD VALUE
        WatchCreateRequest.FilterType NOPUT NODELETE
    """,
}

MESSAGES: Final = {
    "mvccpb": """
        KeyValue key:bytes:1 create_revision:int64:2 mod_revision:int64:3 version:int64:4 value:bytes:5 lease:int64:6
        Event type:Event.EventType:1 kv:KeyValue:2 prev_kv:KeyValue:3
    """,
    "authpb": """
        UserAddOptions no_password:bool:1
        User name:bytes:1 password:bytes:2 roles:*string:3 options:UserAddOptions:4
        Permission permType:Permission.Type:1 key:bytes:2 range_end:bytes:3
        Role name:bytes:1 keyPermission:*Permission:2
    """,
    "etcdserverpb": """
        ResponseHeader cluster_id:uint64:1 member_id:uint64:2 revision:int64:3 raft_term:uint64:4

        RangeRequest key:bytes:1 range_end:bytes:2 limit:int64:3 revision:int64:4 \
            sort_order:RangeRequest.SortOrder:5 sort_target:RangeRequest.SortTarget:6 serializable:bool:7 \
            keys_only:bool:8 count_only:bool:9 min_mod_revision:int64:10 max_mod_revision:int64:11 \
            min_create_revision:int64:12 max_create_revision:int64:13
        RangeResponse header:ResponseHeader:1 kvs:*KeyValue:2 more:bool:3 count:int64:4
        PutRequest key:bytes:1 value:bytes:2 lease:int64:3 prev_kv:bool:4 ignore_value:bool:5 ignore_lease:bool:6
        PutResponse header:ResponseHeader:1 prev_kv:KeyValue:2
        DeleteRangeRequest key:bytes:1 range_end:bytes:2 prev_kv:bool:3
        DeleteRangeResponse header:ResponseHeader:1 deleted:int64:2 prev_kvs:*KeyValue:3
        RequestOp request|request_range:RangeRequest:1 request|request_put:PutRequest:2 \
            request|request_delete_range:DeleteRangeRequest:3 request|request_txn:TxnRequest:4
        ResponseOp response|response_range:RangeResponse:1 response|response_put:PutResponse:2 \
            response|response_delete_range:DeleteRangeResponse:3 response|response_txn:TxnResponse:4
        Compare result:Compare.CompareResult:1 target:Compare.CompareTarget:2 key:bytes:3 \
            target_union|version:int64:4 target_union|create_revision:int64:5 target_union|mod_revision:int64:6 \
            target_union|value:bytes:7 target_union|lease:int64:8 range_end:bytes:64
        TxnRequest compare:*Compare:1 success:*RequestOp:2 failure:*RequestOp:3
        TxnResponse header:ResponseHeader:1 succeeded:bool:2 responses:*ResponseOp:3
        CompactionRequest revision:int64:1 physical:bool:2
        CompactionResponse header:ResponseHeader:1

        WatchRequest request_union|create_request:WatchCreateRequest:1 \
            request_union|cancel_request:WatchCancelRequest:2 request_union|progress_request:WatchProgressRequest:3
        WatchCreateRequest key:bytes:1 range_end:bytes:2 start_revision:int64:3 progress_notify:bool:4 \
            filters:*WatchCreateRequest.FilterType:5 prev_kv:bool:6 watch_id:int64:7 fragment:bool:8
        WatchCancelRequest watch_id:int64:1
        WatchProgressRequest
        WatchResponse header:ResponseHeader:1 watch_id:int64:2 created:bool:3 canceled:bool:4 \
            compact_revision:int64:5 cancel_reason:string:6 fragment:bool:7 events:*Event:11

        LeaseGrantRequest TTL:int64:1 ID:int64:2
        LeaseGrantResponse header:ResponseHeader:1 ID:int64:2 TTL:int64:3 error:string:4
        LeaseRevokeRequest ID:int64:1
        LeaseRevokeResponse header:ResponseHeader:1
        LeaseCheckpoint ID:int64:1 remaining_TTL:int64:2
        LeaseCheckpointRequest checkpoints:*LeaseCheckpoint:1
        LeaseCheckpointResponse header:ResponseHeader:1
        LeaseKeepAliveRequest ID:int64:1
        LeaseKeepAliveResponse header:ResponseHeader:1 ID:int64:2 TTL:int64:3
        LeaseTimeToLiveRequest ID:int64:1 keys:bool:2
        LeaseTimeToLiveResponse header:ResponseHeader:1 ID:int64:2 TTL:int64:3 grantedTTL:int64:4 keys:*bytes:5
        LeaseLeasesRequest
        LeaseStatus ID:int64:1
        LeaseLeasesResponse header:ResponseHeader:1 leases:*LeaseStatus:2

        Member ID:uint64:1 name:string:2 peerURLs:*string:3 clientURLs:*string:4 isLearner:bool:5
        MemberAddRequest peerURLs:*string:1 isLearner:bool:2
        MemberAddResponse header:ResponseHeader:1 member:Member:2 members:*Member:3
        MemberRemoveRequest ID:uint64:1
        MemberRemoveResponse header:ResponseHeader:1 members:*Member:2
        MemberUpdateRequest ID:uint64:1 peerURLs:*string:2
        MemberUpdateResponse header:ResponseHeader:1 members:*Member:2
        MemberListRequest linearizable:bool:1
        MemberListResponse header:ResponseHeader:1 members:*Member:2
        MemberPromoteRequest ID:uint64:1
        MemberPromoteResponse header:ResponseHeader:1 members:*Member:2

        AlarmRequest action:AlarmRequest.AlarmAction:1 memberID:uint64:2 alarm:AlarmType:3
        AlarmMember memberID:uint64:1 alarm:AlarmType:2
        AlarmResponse header:ResponseHeader:1 alarms:*AlarmMember:2
        StatusRequest
        StatusResponse header:ResponseHeader:1 version:string:2 dbSize:int64:3 leader:uint64:4 raftIndex:uint64:5 \
            raftTerm:uint64:6 raftAppliedIndex:uint64:7 errors:*string:8 dbSizeInUse:int64:9 isLearner:bool:10
        DefragmentRequest
        DefragmentResponse header:ResponseHeader:1
        HashRequest
        HashResponse header:ResponseHeader:1 hash:uint32:2
        HashKVRequest revision:int64:1
        HashKVResponse header:ResponseHeader:1 hash:uint32:2 compact_revision:int64:3
        SnapshotRequest
        SnapshotResponse header:ResponseHeader:1 remaining_bytes:uint64:2 blob:bytes:3
        MoveLeaderRequest targetID:uint64:1
        MoveLeaderResponse header:ResponseHeader:1
        DowngradeRequest action:DowngradeRequest.DowngradeAction:1 version:string:2
        DowngradeResponse header:ResponseHeader:1 version:string:2

        AuthEnableRequest
        AuthEnableResponse header:ResponseHeader:1
        AuthDisableRequest
        AuthDisableResponse header:ResponseHeader:1
        AuthStatusRequest
        AuthStatusResponse header:ResponseHeader:1 enabled:bool:2 authRevision:uint64:3
        AuthenticateRequest name:string:1 password:string:2
        AuthenticateResponse header:ResponseHeader:1 token:string:2
        AuthUserAddRequest name:string:1 password:string:2 options:UserAddOptions:3 hashedPassword:string:4
        AuthUserAddResponse header:ResponseHeader:1
        AuthUserGetRequest name:string:1
        AuthUserGetResponse header:ResponseHeader:1 roles:*string:2
        AuthUserListRequest
        AuthUserListResponse header:ResponseHeader:1 users:*string:2
        AuthUserDeleteRequest name:string:1
        AuthUserDeleteResponse header:ResponseHeader:1
        AuthUserChangePasswordRequest name:string:1 password:string:2 hashedPassword:string:3
        AuthUserChangePasswordResponse header:ResponseHeader:1
        AuthUserGrantRoleRequest user:string:1 role:string:2
        AuthUserGrantRoleResponse header:ResponseHeader:1
        AuthUserRevokeRoleRequest name:string:1 role:string:2
        AuthUserRevokeRoleResponse header:ResponseHeader:1
        AuthRoleAddRequest name:string:1
        AuthRoleAddResponse header:ResponseHeader:1
        AuthRoleGetRequest role:string:1
        AuthRoleGetResponse header:ResponseHeader:1 perm:*Permission:2
        AuthRoleListRequest
        AuthRoleListResponse header:ResponseHeader:1 roles:*string:2
        AuthRoleDeleteRequest role:string:1
        AuthRoleDeleteResponse header:ResponseHeader:1
        AuthRoleGrantPermissionRequest name:string:1 perm:Permission:2
        AuthRoleGrantPermissionResponse header:ResponseHeader:1
        AuthRoleRevokePermissionRequest role:string:1 key:bytes:2 range_end:bytes:3
        AuthRoleRevokePermissionResponse header:ResponseHeader:1
    """,
    "v3lockpb": """
        LockRequest name:bytes:1 lease:int64:2
        LockResponse header:ResponseHeader:1 key:bytes:2
        UnlockRequest key:bytes:1
        UnlockResponse header:ResponseHeader:1
    """,
    "v3electionpb": """
        CampaignRequest name:bytes:1 lease:int64:2 value:bytes:3
        CampaignResponse header:ResponseHeader:1 leader:LeaderKey:2
        LeaderKey name:bytes:1 key:bytes:2 rev:int64:3 lease:int64:4
        LeaderRequest name:bytes:1
        LeaderResponse header:ResponseHeader:1 kv:KeyValue:2
        ResignRequest leader:LeaderKey:1
        ResignResponse header:ResponseHeader:1
        ProclaimRequest leader:LeaderKey:1 value:bytes:2
        ProclaimResponse header:ResponseHeader:1
    """,
}

SERVICES: Final = """
    etcdserverpb.KV Range Put DeleteRange Txn Compact:Compaction
    etcdserverpb.Watch <Watch>
    etcdserverpb.Lease LeaseGrant LeaseRevoke <LeaseKeepAlive> LeaseTimeToLive LeaseLeases
    etcdserverpb.Cluster MemberAdd MemberRemove MemberUpdate MemberList MemberPromote
    etcdserverpb.Maintenance Alarm Status Defragment Hash HashKV Snapshot> MoveLeader Downgrade
    etcdserverpb.Auth AuthEnable AuthDisable AuthStatus Authenticate \
        UserAdd:AuthUserAdd UserGet:AuthUserGet UserList:AuthUserList UserDelete:AuthUserDelete \
        UserChangePassword:AuthUserChangePassword UserGrantRole:AuthUserGrantRole \
        UserRevokeRole:AuthUserRevokeRole RoleAdd:AuthRoleAdd RoleGet:AuthRoleGet RoleList:AuthRoleList \
        RoleDelete:AuthRoleDelete RoleGrantPermission:AuthRoleGrantPermission \
        RoleRevokePermission:AuthRoleRevokePermission
    v3lockpb.Lock Lock Unlock
    v3electionpb.Election Campaign Proclaim Leader Observe>:Leader Resign
"""
"""One line is one service, one word a method: `<` its requests are a stream, `>` its responses are. Request and
response are called as the method, or as what stands behind the colon."""
