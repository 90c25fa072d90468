"""Long forms of tests: thousands of seeds and interrupts, run by ``make soak``; see docs/soak.md."""
