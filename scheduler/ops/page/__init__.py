"""The status page: what an operator wants to know in five seconds, as HTML that a browser only has to show.

- `site`: the pages for people, asked and answered. `renderer`: templates into text; `assets`: style, script and icon.
- `overview`, `automation`, `automation_list`, `occurrences`: what is on each page, as values; the templates lay it out and decide nothing.
- `timeline`: what fires next, as a drawing. `findings`: what is wrong, and what to do. `filters`: what was asked for in a form.
- `times`, `rows`: instants and records as people read them.

Whatever comes from elsewhere is hostile: every text is made printable and escaped on its way into a template, and the browser is told
to run and fetch nothing but what is served here.
"""
