"""Files that describe a job, one platform's format a file: `recognises` tells it by its keys, `read` makes a `Job`."""
