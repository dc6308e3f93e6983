"""The images worker: claims operations, runs an engine in a child process, stores the result."""
