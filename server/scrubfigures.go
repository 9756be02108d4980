package server

import "github.com/prometheus/client_golang/prometheus"

var (
	figureScrubTime      = prometheus.NewDesc("signet_ledger_scrub_timestamp_seconds", "When the last scrub was recorded; 0: never.", nil, nil)
	figureScrubTook      = prometheus.NewDesc("signet_ledger_scrub_seconds", "How long the last scrub took.", nil, nil)
	figureScrubFaults    = prometheus.NewDesc("signet_ledger_scrub_faults", "Faults that the last scrub has found. Anything but 0 is an alarm.", nil, nil)
	figureScrubRunning   = prometheus.NewDesc("signet_ledger_scrub_running", "Whether a scrub is at work.", nil, nil)
	figureScrubRuns      = prometheus.NewDesc("signet_ledger_scrub_runs_total", "Scrubs that were begun.", nil, nil)
	figureScrubFailed    = prometheus.NewDesc("signet_ledger_scrub_failed", "Whether the newest scrub could not be carried out.", nil, nil)
	figureScrubBytes     = prometheus.NewDesc("signet_ledger_scrub_bytes", "Bytes that the newest scrub has read.", nil, nil)
	figureBracketed      = prometheus.NewDesc("signet_ledger_bracketed_entries", "Entries under the newest time-stamped checkpoint.", nil, nil)
	figureBracketFailed  = prometheus.NewDesc("signet_ledger_bracket_failed", "Whether the newest checkpoint could not be time-stamped.", nil, nil)
	figureExternalFailed = prometheus.NewDesc("signet_tsa_external_failures_total", "Time-stamps that an external authority did not give.", []string{"authority"}, nil)
	figureClockTrusted   = prometheus.NewDesc("signet_clock_trusted", "Whether the clock is believed. Nothing is signed while it is not.", nil, nil)
	figureClockOffset    = prometheus.NewDesc("signet_clock_offset_seconds", "How far the clock is ahead, as a source has measured it.", []string{"source"}, nil)
	figureClockError     = prometheus.NewDesc("signet_clock_error_seconds", "How wrong the offset itself can be.", []string{"source"}, nil)

	upkeepFigures = []*prometheus.Desc{figureScrubTime, figureScrubTook, figureScrubFaults, figureScrubRunning, figureScrubRuns, figureScrubFailed, figureScrubBytes,
		figureBracketed, figureBracketFailed, figureExternalFailed, figureClockTrusted, figureClockOffset, figureClockError}
)

// upkeepCollector reads the figures of scrubs, time brackets and the clock when they are asked for.
type upkeepCollector struct{ *Server }

// Describe implements [prometheus.Collector].
func (upkeepCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range upkeepFigures {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (c upkeepCollector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) { to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	scrub, bracket := c.scrubStatus(), c.bracketStatus()
	last := ScrubResult{}
	if scrub.Last != nil {
		last = *scrub.Last
	}
	gauge(figureScrubTime, seconds(last.Time))
	gauge(figureScrubTook, float64(last.Duration)/1e9)
	gauge(figureScrubFaults, float64(uint64(len(last.Faults))+last.Unnamed))
	gauge(figureScrubRunning, truth(scrub.Running))
	to <- prometheus.MustNewConstMetric(figureScrubRuns, prometheus.CounterValue, float64(scrub.Run))
	gauge(figureScrubFailed, truth(scrub.Error != ""))
	gauge(figureScrubBytes, float64(scrub.Bytes))
	gauge(figureBracketed, float64(bracket.Size))
	gauge(figureBracketFailed, truth(bracket.Error != ""))
	gauge(figureClockTrusted, truth(c.tsa.Load().ClockDoubt() == nil))
	if c.discipline != nil {
		for _, m := range c.discipline.Measured() {
			if m.Err == nil {
				to <- prometheus.MustNewConstMetric(figureClockOffset, prometheus.GaugeValue, m.Offset.Seconds(), m.Source)
				to <- prometheus.MustNewConstMetric(figureClockError, prometheus.GaugeValue, m.Error.Seconds(), m.Source)
			}
		}
	}
	c.brackets.mu.Lock()
	defer c.brackets.mu.Unlock()
	for name, n := range c.brackets.failed {
		to <- prometheus.MustNewConstMetric(figureExternalFailed, prometheus.CounterValue, float64(n), name)
	}
}
