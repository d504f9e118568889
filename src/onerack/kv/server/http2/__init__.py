"""HTTP/2 for servers, on our own sockets: as much of RFC 9113 as gRPC needs, and all that hostile peers make necessary.

    listener     takes connections, and looks at the clock for them
    connection   its life, from the preface to the end
    receiving    reads frames, one loop per read; sending: writes them, within the peer's windows
    streams      one request each; headers: HPACK; frames: the numbers; limits

The rule: nothing here knows what a gRPC call is.
"""
