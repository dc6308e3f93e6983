"""The Realtime server of the embedded stack: what a hosted project serves at /realtime/v1.

    server       the HTTP and websocket endpoints; reads the settings of its stack
    connection   one websocket: bounded sending, the protocol's frames
    channel      one joined topic of a connection
    hub          who is on which topic; broadcasts and presence
    frames       both versions of the wire format
    tokens       API keys and JWTs
    policies     what the policies on realtime.messages allow a caller on a private topic
    replication  the write-ahead log, read from a temporary slot
    pgoutput     the format in which the log arrives
    changes      Postgres Changes: subscriptions, and who of them may see a change
    filters      the filter language of Postgres Changes

It speaks to supabase-js and the other official clients as Realtime v2.120 does, for one project on one machine:
nothing is shared between processes, and the quotas of hosted plans (messages a second and the like) are not
enforced. Delivery is at most once, there as here.
"""
