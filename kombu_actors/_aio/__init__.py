"""What ``aio`` is made of: an asyncio loop as the place of a program; knows neither threads nor trio."""
