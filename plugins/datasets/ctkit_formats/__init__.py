"""Files that data sets and tasks read alike: pictures of any depth, and tables of labels."""
