"""Many calls at the same time: in threads, in an executor of the user's, each within its time."""
