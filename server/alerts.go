package server

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signetd/signet/server/internal/notify"
)

// openNotifier makes what delivers alerts.
func (s *Server) openNotifier() error {
	c, err := s.config.notifyConfig()
	if err != nil {
		return err
	}
	c.Ledger, c.Clock, c.Log, c.ZoneOf = s.ledger, s.clock, s.log, s.identities.ZoneOf
	s.notifier, err = notify.New(c)
	return err
}

// keepNotifying delivers alerts until ctx ends.
func (s *Server) keepNotifying(ctx context.Context) {
	for _, a := range []notify.Audience{notify.Security, notify.Management} {
		if !s.notifier.Serves(a) && s.config.Environment == Production {
			s.log.Warn("no channel is configured for alerts: nobody hears of attacks (21 CFR 11.300(d)); see alerts in the configuration", "audience", a)
		}
	}
	s.background.Go(func() { s.notifier.Run(ctx) })
}

var (
	figureAlertsOpen        = prometheus.NewDesc("signet_alerts_open", "Alerts that nobody has acknowledged.", nil, nil)
	figureAlertsEscalated   = prometheus.NewDesc("signet_alerts_escalated", "Of these, those that management was told of.", nil, nil)
	figureAlertsUndelivered = prometheus.NewDesc("signet_alerts_undelivered", "Alerts and news that no channel has taken yet.", []string{"audience"}, nil)
	figureAlertMessages     = prometheus.NewDesc("signet_alert_messages_total", "Messages since the start, by channel and by whether the channel took them.", []string{"channel", "delivered"}, nil)
	figureAlertChannel      = prometheus.NewDesc("signet_alert_channel_up", "Whether the last try did not find the channel down.", []string{"channel"}, nil)
)

// alertFigures are those of alerts.
var alertFigures = []*prometheus.Desc{figureAlertsOpen, figureAlertsEscalated, figureAlertsUndelivered, figureAlertMessages, figureAlertChannel}

// collectAlerts tells how alerts are delivered.
func (s *Server) collectAlerts(to chan<- prometheus.Metric) {
	f, err := s.notifier.Figures()
	if err != nil {
		return // the ledger's own figures tell
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(figureAlertsOpen, float64(f.Open))
	gauge(figureAlertsEscalated, float64(f.Escalated))
	gauge(figureAlertsUndelivered, float64(f.Undelivered), string(notify.Security))
	gauge(figureAlertsUndelivered, float64(f.News), string(notify.Signer))
	for _, c := range f.Channels {
		gauge(figureAlertChannel, truth(c.Up), c.Name)
		to <- prometheus.MustNewConstMetric(figureAlertMessages, prometheus.CounterValue, float64(c.Delivered), c.Name, "yes")
		to <- prometheus.MustNewConstMetric(figureAlertMessages, prometheus.CounterValue, float64(c.Failed), c.Name, "no")
	}
}

// alertProblem says what keeps alerts from arriving; empty: nothing.
func (s *Server) alertProblem() string {
	f, err := s.notifier.Figures()
	if err != nil {
		return err.Error()
	}
	for _, c := range f.Channels {
		if !c.Up {
			return "the channel " + c.Name + " is down"
		}
	}
	return ""
}
