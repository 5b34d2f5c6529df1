"""A lean HTTP/1.1 client: httptools' parser on plain asyncio protocols, and a pool of the connections it keeps."""
