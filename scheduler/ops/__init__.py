"""The observers of events: what people, Prometheus and probes see of a running daemon. The daemon names none of them.

- `bus`: publishes events to whoever subscribed. `heartbeat`: when the loop was last seen alive.
- `logs`: the process's log; `event_log`: each event as a line of it; `console_format`: lines for people; `journal`: entries for systemd's;
  `writer`: all of these out, without waiting.
- `systemd`: what its manager is told of the process.
- `metrics`: counters and histograms of events; `gauges`: the state of the daemon when it is scraped.
- `web`: the pages; `page_sources`: where they have it from; `views`: their JSON; `page`: those for people.
- `queries`: what may be asked of them; `hosts`: under which names.
- `http_server`: any application on an address, in the loop that runs already.
"""
