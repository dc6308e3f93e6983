"""Other queues, each drained and timed in a process of its own."""
