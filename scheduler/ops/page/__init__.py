"""The status page: it answers an operator's main questions within five seconds.

The server makes complete HTML, and a browser only displays it.

- `site`: the routes for people. `renderer`: renders templates. `assets`: style, script and icon.
- `overview`, `automation`, `automation_list`: the content of each page, as values. The templates lay out
  these values and decide nothing.
- `timeline`: the coming fires as a drawing. `findings`: problems and advice. `filters`: the fields of a form.
  `output`: the output of a run.
- `times`, `rows`: instants and records in readable form.

Foreign text may be hostile. Every text is made printable and escaped before a template shows it, and the
browser may run and fetch only files of this server.
"""
