"""The Protobuf form of the client protocol: its schema, and how JSON of the protocol becomes that."""
