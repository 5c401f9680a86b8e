-- Who expunges an event means its tags, too: they are the publisher's words as much as the data.
GRANT UPDATE (tags) ON events TO posthaste_tenant;
