package server

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/signing"
)

// callMeters count calls and how long they took, by method and code. There are as many as the contract has methods, times the codes.
type callMeters struct {
	known  map[string]bool // full names of methods; not changed once calls come
	meters sync.Map        // callKind → *keystore.Meter
	stages sync.Map        // signing.Stage → *keystore.Meter
}

type callKind struct {
	method string
	code   codes.Code
}

// otherMethods are those that nobody serves: what callers make up is no label.
const otherMethods = "others"

// stage adds to a stage of signatures.
func (m *callMeters) stage(s signing.Stage, d time.Duration) {
	meter, ok := m.stages.Load(s)
	if !ok {
		meter, _ = m.stages.LoadOrStore(s, new(keystore.Meter))
	}
	meter.(*keystore.Meter).Add(d)
}

func (m *callMeters) add(method string, code codes.Code, d time.Duration) {
	if !m.known[method] {
		method = otherMethods
	}
	kind := callKind{method, min(code, codes.Unauthenticated+1)}
	meter, ok := m.meters.Load(kind)
	if !ok {
		meter, _ = m.meters.LoadOrStore(kind, new(keystore.Meter))
	}
	meter.(*keystore.Meter).Add(d)
}

// figures describes what is measured. Labels are bounded: names of the configuration, methods of the contract, algorithms, and the
// names of errors, of which a token reports 64 at most. No label says anything of people, records or keys.
var (
	tokenLabels = []string{"token", "replica"}

	figureState      = tokenFigure("state", "State of the token: 1 for the one that it is in.", "state")
	figureActive     = tokenFigure("active", "Whether calls go to the token: of replicas, one is active.")
	figureWorkers    = tokenFigure("workers", "Signatures that the token can make at the same time.")
	figureBusy       = tokenFigure("workers_busy", "Workers in a call.")
	figureStuck      = tokenFigure("workers_stuck", "Workers in a call that has not returned for too long.")
	figureWaiting    = tokenFigure("waiting", "Calls that wait for a worker.")
	figureQueue      = tokenFigure("queue", "Calls that may wait for a worker.")
	figureSessions   = tokenFigure("sessions", "Open PKCS#11 sessions.")
	figureProcesses  = tokenFigure("processes", "Worker processes that run the module; 0: the service's own process does.")
	figureMissing    = tokenFigure("missing_keys", "Keys of the other replicas that the token is known not to have.")
	figureEpoch      = tokenFigure("epoch", "How often the token was set up.")
	figureProved     = tokenFigure("canary_timestamp_seconds", "When the token last signed with its canary key.")
	figureTested     = tokenFigure("known_answers_timestamp_seconds", "When the token last passed the known-answer tests.")
	figureRecoveries = tokenFigure("recoveries_total", "Times that the token was set up again after a failure.")
	figureRespawns   = tokenFigure("respawns_total", "Worker processes that were started again.")
	figureSignatures = tokenFigure("signatures_total", "Signatures made, by algorithm.", "algorithm")
	figureErrors     = tokenFigure("errors_total", "Failed PKCS#11 calls, by return value.", "ckr")
	figureWait       = tokenFigure("wait_seconds", "From a call's arrival to its worker.")
	figureService    = tokenFigure("service_seconds", "In the worker.")

	figureCalls     = prometheus.NewDesc("signet_grpc_call_seconds", "Calls and how long they took, by method and code.", []string{"method", "code"}, nil)
	figureStage     = prometheus.NewDesc("signet_signature_stage_seconds", "What signatures wait for: proof, hsm, timestamp, ledger, release.", []string{"stage"}, nil)
	figureEntries   = prometheus.NewDesc("signet_ledger_entries", "Entries of the ledger.", nil, nil)
	figureIndexed   = prometheus.NewDesc("signet_ledger_indexed_entries", "Entries that the newest commitment to the index covers.", nil, nil)
	figureCosigned  = prometheus.NewDesc("signet_ledger_cosigned_entries", "Entries of the newest checkpoint that the quorum of witnesses has cosigned; 0 without one.", nil, nil)
	figureWitness   = prometheus.NewDesc("signet_ledger_witnessed_entries", "Entries of the newest checkpoint that a witness has cosigned.", []string{"witness"}, nil)
	figureWitnessUp = prometheus.NewDesc("signet_ledger_witness_up", "Whether the last exchange with a witness brought its cosignature.", []string{"witness"}, nil)
	figureChanged   = prometheus.NewDesc("signet_ledger_changed_while_stopped", "What others had changed about the ledger's file when the service was opened; the log says what.", nil, nil)
	figureReady     = prometheus.NewDesc("signet_ready", "Whether a service of the contract works; the one without a name: whether signatures can be made.", []string{"service"}, nil)
	figureRefused   = prometheus.NewDesc("signet_connections_refused_total", "Connections that were refused: by network, or because there was no room.", nil, nil)
	figureBuild     = prometheus.NewDesc("signet_build_info", "Always 1.", []string{"version", "environment"}, nil)
)

func tokenFigure(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc("signet_hsm_"+name, help, append(tokenLabels[:len(tokenLabels):len(tokenLabels)], more...), nil)
}

var tokenStates = []keystore.State{keystore.Working, keystore.Recovering, keystore.Hanging, keystore.Refusing, keystore.Offline, keystore.Closed}

// serverCollector reads the figures of a server when they are asked for.
type serverCollector struct{ *Server }

// Describe implements [prometheus.Collector].
func (c serverCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		figureState, figureActive, figureWorkers, figureBusy, figureStuck, figureWaiting, figureQueue, figureSessions, figureProcesses, figureMissing,
		figureEpoch, figureProved, figureTested, figureRecoveries, figureRespawns, figureSignatures, figureErrors, figureWait, figureService,
		figureCalls, figureStage, figureEntries, figureCosigned, figureWitness, figureWitnessUp, figureChanged, figureIndexed, figureReady, figureRefused, figureBuild,
		figureArchived, figureArchiveFailed,
	} {
		to <- d
	}
	for _, d := range alertFigures {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (c serverCollector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for i, s := range c.keys.Status() {
		collectToken(to, c.tokenName(i, s), s)
	}
	c.calls.meters.Range(func(k, m any) bool {
		kind := k.(callKind)
		histogram(to, figureCalls, m.(*keystore.Meter).Durations(), kind.method, kind.code.String())
		return true
	})
	for _, stage := range signing.Stages() {
		if m, ok := c.calls.stages.Load(stage); ok {
			histogram(to, figureStage, m.(*keystore.Meter).Durations(), string(stage))
		}
	}
	gauge(figureEntries, float64(c.ledger.Size()))
	to <- prometheus.MustNewConstMetric(figureRefused, prometheus.CounterValue, float64(c.refusedConnections.Load()))
	gauge(figureCosigned, float64(c.ledger.Cosigned().Checkpoint.Size))
	for _, w := range c.witnessStatus() {
		gauge(figureWitness, float64(w.Size), w.Name)
		gauge(figureWitnessUp, truth(w.Err == nil), w.Name)
	}
	gauge(figureChanged, float64(len(c.ledger.Changed())))
	gauge(figureIndexed, float64(c.index.Status().Committed))
	c.collectArchive(gauge)
	c.collectAlerts(to)
	gauge(figureBuild, 1, c.version, c.config.Environment)
	for service := range needs {
		gauge(figureReady, truth(c.readiness(service) == nil), service)
	}
}

func collectToken(to chan<- prometheus.Metric, name string, s keystore.Status) {
	replica := strconv.Itoa(s.Replica)
	gauge := func(d *prometheus.Desc, v float64, more ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{name, replica}, more...)...)
	}
	counter := func(d *prometheus.Desc, v uint64, more ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), append([]string{name, replica}, more...)...)
	}
	for _, state := range tokenStates {
		gauge(figureState, truth(s.State == state), string(state))
	}
	gauge(figureActive, truth(s.Active))
	gauge(figureWorkers, float64(s.Workers))
	gauge(figureBusy, float64(s.Busy))
	gauge(figureStuck, float64(s.Stuck))
	gauge(figureWaiting, float64(s.Waiting))
	gauge(figureQueue, float64(s.Queue))
	gauge(figureSessions, float64(s.Sessions))
	gauge(figureProcesses, float64(s.Processes))
	gauge(figureMissing, float64(s.Missing))
	gauge(figureEpoch, float64(s.Epoch))
	gauge(figureProved, seconds(s.Proved))
	gauge(figureTested, seconds(s.Tested))
	counter(figureRecoveries, s.Recoveries)
	counter(figureRespawns, s.Respawns)
	for a, n := range s.Signatures {
		counter(figureSignatures, n, string(a))
	}
	for ckr, n := range s.Errors {
		counter(figureErrors, n, ckr)
	}
	histogram(to, figureWait, s.Wait, name, replica)
	histogram(to, figureService, s.Service, name, replica)
}

// histogram gives durations to Prometheus, whose buckets are cumulative.
func histogram(to chan<- prometheus.Metric, d *prometheus.Desc, v keystore.Durations, labels ...string) {
	buckets, sum := make(map[float64]uint64, keystore.Buckets), uint64(0)
	for i, n := range v.Count[:keystore.Buckets-1] { // the last bucket has no bound
		sum += n
		buckets[keystore.Bound(i).Seconds()] = sum
	}
	to <- prometheus.MustNewConstHistogram(d, sum+v.Count[keystore.Buckets-1], v.Sum.Seconds(), buckets, labels...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// newRegistry makes the metrics of a server. They belong to it, so several servers of one process do not mix.
func (s *Server) newRegistry() (*prometheus.Registry, error) {
	r := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{serverCollector{s}, upkeepCollector{s}, certificateCollector{s}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return r, nil
}
