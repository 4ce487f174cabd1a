"""The what-if page that ``bandwise serve`` opens; nothing below it knows of it.

inputs: The page's inputs, read from an address and written as command line, TOML and Python.
answers: What the page shows of one set of inputs: figures, curves, required bandwidths, a report.
work: Answers kept, and computed in processes, so that a curve never delays a figure.
page: The page as HTML, filled in, usable without its script.
application: The addresses of the page, as an ASGI application; who may ask.
serving: A socket on the loopback address, and uvicorn on it.

page.js and page.css are the script and style of the page.
"""
