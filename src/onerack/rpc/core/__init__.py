"""The pure protocol of RPC: sessions and reply cache, the server's calls, the client's calls and retries."""
