"""Chat: messages that can be edited, deleted and reacted to, in rooms that are moderated."""
