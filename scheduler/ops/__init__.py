"""The observers of events: the daemon as people, Prometheus and probes see it.

The daemon does not know its observers.

- `bus`: publishes events to its subscribers. `heartbeat`: the instant at which the loop was last alive.
- `logs`: the log of the process. `event_log`: each event as a log line. `console_format`: log lines for
  people. `journal`: log entries for systemd's journal. `writer`: writes all of these on its own thread,
  without delay for the loop.
- `systemd`: tells systemd the state of the process.
- `metrics`: counters and histograms of events. `gauges`: the state of the daemon when it is scraped.
- `web`: the routes. `page_sources`: the sources of their content. `views`: JSON for programs. `page`: pages
  for people.
- `queries`: the parameters of a request. `hosts`: the host names of the server.
- `http_server`: serves any application on an address, in the loop of the process.
"""
