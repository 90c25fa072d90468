"""The messaging actors, one file each: connection, session, topology, channel, publisher, deadlines."""
