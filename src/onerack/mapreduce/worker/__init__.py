"""The worker's process: how it starts and is limited, and how it runs the tasks it is given."""
