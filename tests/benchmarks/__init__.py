"""What vlcheck costs, as ratios against a reference in the same run; none of it is part of the test suite."""
