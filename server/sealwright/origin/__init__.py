"""Origin verification: the client supplies locators, the CI system supplies facts, rules decide."""
