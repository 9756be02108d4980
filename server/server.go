// Package server is Signet's service: it composes the ledger, the identities, the ceremony and the time-stamping authority
// behind gRPC.
//
// [Init] makes a new service: the key ceremony, the ledger's first entries, the trust file, the first administrator's one-time
// code. [Open] opens an existing one, and [Server.Serve] answers calls until [Server.Stop]. Everything listens with TLS 1.3;
// a method that is not in the access table is refused; every error has a gRPC code, an ErrorInfo reason (domain "signet") and a
// sentence that says what to do.
package server

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/deploy"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/blob"
	"github.com/signetd/signet/server/internal/identity"
	ledgerindex "github.com/signetd/signet/server/internal/index"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/notify"
	"github.com/signetd/signet/server/internal/rights"
	"github.com/signetd/signet/server/internal/signing"
	"github.com/signetd/signet/server/internal/tsa"
	"github.com/signetd/signet/server/internal/witness"
)

// Names in the data folder.
const (
	LedgerFile = "ledger.db"
	BlobFolder = "blobs"
	TrustFile  = "signet-trust.json"
)

// Options are what a server is made of besides its configuration.
type Options struct {
	Config Config
	Keys   *keystore.Store // opened and logged in; the server does not close it
	// Recorded, if not nil, answers for the ledger while the server is open; its Attributes belong in the keystore.Options of Keys.
	Recorded *Recorded
	Version  string
	Clock    func() time.Time // nil: time.Now
	// Monotonic tells how long the process has been running, whatever is done to the clock. nil: the monotonic part of what Clock returns.
	Monotonic func() time.Duration
	Log       *slog.Logger // nil: none
}

func (o *Options) defaults() {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Version == "" {
		o.Version = "v0.0.0-dev"
	}
}

// Server is an open service.
type Server struct {
	config     Config
	version    string
	clock      func() time.Time
	monotonic  func() time.Duration // may be nil, see Options
	log        *slog.Logger
	keys       *keystore.Store
	ledger     *ledger.Ledger
	blobs      *blob.Folder
	identities *identity.Directory
	ceremony   *signing.Ceremony
	index      *ledgerindex.Index
	tsa        atomic.Pointer[tsa.Authority] // another one after its key was rotated
	trust      atomic.Pointer[[]byte]        // the trust file
	trusting   sync.Mutex                    // one change of it at a time
	recorded   *Recorded
	keyChanges sync.Mutex // one rotation or destruction at a time
	vkey       string
	pages      *pages
	large      *places
	grpc       *grpc.Server
	health     *healthWatch
	calls      *callMeters
	doors      sideDoors
	backups    backups
	witnesses  *witness.Client // nil without
	notifier   *notify.Notifier
	archiver   archiver
	scrubs     scrubs
	brackets   brackets
	discipline *tsa.Discipline // nil: nobody measures the clock
	beliefs    beliefs

	certificates certificateUpkeep

	network  network
	rates    *rates
	refusals *refusals

	refusedConnections atomic.Uint64

	archiveStore   ledger.Store  // nil without an archive
	metricsAddress string        // empty without metrics
	webAddress     string        // empty without the HTTPS listener
	pagesAddress   string        // empty without the signing pages
	gate           *gate         // stands before every call
	stopping       chan struct{} // closed when Stop begins: what waits for new entries ends
	stopOnce       sync.Once
	starting       sync.Mutex // so that nothing starts after Stop
	stopHealth     context.CancelFunc
	background     sync.WaitGroup
}

// projections are all projections of the ledger.
func projections() []ledger.Projection {
	return []ledger.Projection{keysProjection{}, identity.Projection(), identity.TestsProjection(), signing.Projection(), notify.Projection(), rights.Projection(), upkeepProjection{}, certificatesProjection{}}
}

// ledgerOptions opens the ledger with its key in the HSM.
func ledgerOptions(ctx context.Context, o Options) (ledger.Options, error) {
	key, err := o.Keys.Key(ctx, ledgerKeyID)
	if err != nil {
		return ledger.Options{}, fmt.Errorf("the ledger's key: %w", err)
	}
	public, ok := key.Public.(ed25519.PublicKey)
	if !ok {
		return ledger.Options{}, fmt.Errorf("the ledger's key is %s, not Ed25519", key.Algorithm)
	}
	lo := ledger.Options{
		Path: o.Config.Path(LedgerFile), Origin: o.Config.Ledger.Origin, Clock: o.Clock, Projections: projections(), Log: o.Log, Monotonic: o.Monotonic,
		Signer: ledger.CheckpointSigner{Name: o.Config.Ledger.Origin, Public: public, Sign: func(ctx context.Context, msg []byte) ([]byte, error) {
			return o.Keys.Sign(ctx, ledgerKeyID, public, msg)
		}},
	}
	lo.Archive = newArchiveStore(o)
	lo.Auditors = func() []ledger.Auditor {
		return append(upkeepAuditors(o.Config, public), indexAuditor(o.Config), identity.NewAuditor(), identity.NewPasskeyAuditor())
	}
	guardAgainstRollback(o, &lo)
	return lo, addWitnesses(o, &lo)
}

// Open opens the service in the data folder.
func Open(ctx context.Context, o Options) (_ *Server, err error) {
	o.defaults()
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(o.Config.Path(LedgerFile)); err != nil {
		return nil, fmt.Errorf("%w: no ledger in %s; `signetd init` makes one", ErrConfig, o.Config.DataDir)
	}
	tests, err := o.Keys.SelfTest(ctx)
	if err != nil {
		return nil, err
	}
	o.Log.Info("known-answer tests passed", "tests", len(tests))
	lo, err := ledgerOptions(ctx, o)
	if err != nil {
		return nil, err
	}
	discipline, err := openClock(ctx, o)
	if err != nil {
		return nil, err
	}
	if discipline != nil {
		lo.ClockDoubt = discipline.Wrong
	}
	l, err := ledger.Open(ctx, lo)
	if err != nil {
		return nil, nextStep(o.Config, err)
	}
	noteChanges(l, o.Log)
	s := &Server{config: o.Config, version: o.Version, clock: o.Clock, monotonic: o.Monotonic, log: o.Log, keys: o.Keys, recorded: o.Recorded, ledger: l, discipline: discipline, archiveStore: lo.Archive, stopping: make(chan struct{}), pages: newPages(), large: newPlaces(8, 2), health: newHealthWatch(), calls: &callMeters{known: make(map[string]bool)}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := s.compose(ctx); err != nil {
		return nil, err
	}
	if err := s.identities.Recover(ctx); err != nil {
		return nil, fmt.Errorf("end what a stop left open: %w", err)
	}
	if err := s.identities.EnsureKeys(ctx); err != nil {
		return nil, fmt.Errorf("the key that passwords are checked with: %w", err)
	}
	if err := o.Recorded.open(ctx, l, o.Keys); err != nil {
		return nil, err
	}
	if err := s.trustPasskeys(ctx); err != nil {
		return nil, fmt.Errorf("finish what was interrupted: %w", err)
	}
	if err := s.recoverKeys(ctx); err != nil {
		return nil, fmt.Errorf("finish what was interrupted: %w", err)
	}
	if err := s.ceremony.Recover(ctx); err != nil {
		return nil, fmt.Errorf("finish what was interrupted: %w", err)
	}
	if err := s.listenerOptions(); err != nil {
		return nil, err
	}
	if err := errors.Join(s.openSideDoors(), s.openWeb(), s.openPages()); err != nil {
		return nil, errors.Join(err, s.doors.close())
	}
	return s, nil
}

// compose makes the parts from the ledger's keys.
func (s *Server) compose(ctx context.Context) error {
	key, err := s.keys.Key(ctx, ledgerKeyID)
	if err != nil {
		return err
	}
	if s.vkey, _, err = chain.VerifierKey(s.config.Ledger.Origin, key.Public); err != nil {
		return err
	}
	if s.network, err = newNetwork(s.config.Network); err != nil {
		return err
	}
	s.rates, s.refusals = newRates(s.config, s.clock), newRefusals(s.clock)
	if s.blobs, err = blob.Open(s.config.Path(BlobFolder)); err != nil {
		return err
	}
	if s.identities, err = openDirectory(s.config, s.ledger, s.keys, s.stampAccountability, s.clock, s.log); err != nil {
		return err
	}
	authority, err := openAuthority(s.config, s.ledger, s.keys, s.clock, s.monotonic, s.discipline)
	if err != nil {
		return err
	}
	s.tsa.Store(authority)
	system, err := s.config.system(s.version)
	if err != nil {
		return err
	}
	s.ceremony = signing.New(signing.Config{
		Clock: s.clock, Ledger: s.ledger, Identities: s.identities, Blobs: s.blobs, System: system,
		Sign: func(ctx context.Context, by identity.SigningIdentity, message []byte) ([]byte, error) {
			if err := s.scrubFound(); err != nil { // nothing is signed on damaged ground
				return nil, err
			}
			return s.keys.Sign(ctx, by.Key, by.Public, message)
		},
		Stamp: func(ctx context.Context, signature []byte) ([]byte, time.Time, error) {
			return s.tsa.Load().Stamp(ctx, signature)
		},
		StampMore:    s.stampMore,
		WitnessDelay: time.Duration(s.config.Ledger.Witness.Delay),
		Lifetime:     time.Duration(s.config.Signing.PreparationLifetime), DocumentLimit: s.config.Limits.DocumentBytes, Observe: s.calls.stage, Log: s.log,
	})
	if err := errors.Join(s.openScrubs(), s.openBrackets(), s.openNotifier()); err != nil {
		return err
	}
	if err := errors.Join(s.openIndex(), s.openWitnesses()); err != nil {
		return err
	}
	trust, err := os.ReadFile(s.config.Path(TrustFile))
	if err != nil {
		return fmt.Errorf("the trust file: %w; restore it from where you pinned it", err)
	}
	if _, err := manifest.ParseTrust(trust); err != nil {
		return fmt.Errorf("the trust file %s: %w", s.config.Path(TrustFile), err)
	}
	s.trust.Store(&trust)
	return s.trustStamps()
}

// system stands in every record.
func (c Config) system(version string) (manifest.System, error) {
	configuration, err := c.Digest()
	if err != nil {
		return manifest.System{}, err
	}
	strategy, err := signing.Strategy()
	if err != nil {
		return manifest.System{}, err
	}
	documents, err := deploy.Digest()
	if err != nil {
		return manifest.System{}, err
	}
	return manifest.System{
		Access: c.Access(), Configuration: configuration, Documents: documents, Environment: c.Environment, Software: "signet " + version, Strategy: strategy,
	}, nil
}

func openDirectory(c Config, l *ledger.Ledger, keys *keystore.Store, stamp identity.Stamp, clock func() time.Time, log *slog.Logger) (*identity.Directory, error) {
	authority, err := openCA(c, l, keys, clock)
	if err != nil {
		return nil, err
	}
	clients, err := c.clientAuthorities(clock, log)
	if err != nil {
		return nil, err
	}
	ic := identity.Config{
		Passkeys: c.passkeyConfig(),
		Sources:  identity.Sources(c.Identity.Sources), ClientAuthorities: clients, ServiceMethods: serviceMethods(), RecordTypes: recordTypeIDs(),
		FourEyes: identity.FourEyes(c.Identity.FourEyes), ProposalLifetime: time.Duration(c.Identity.ProposalLifetime),
		LetterReference: c.Identity.LetterReference, Stamp: stamp,
		Issuer: c.Issuer, Organisation: c.Organisation, PasswordChecks: c.Identity.PasswordChecks,
		Argon:           identity.ArgonParams{Memory: uint32(c.Identity.PasswordMemory) << 10, Time: uint32(c.Identity.PasswordPasses), Threads: 1},
		SessionIdle:     time.Duration(c.Identity.SessionIdle),
		SessionLifetime: time.Duration(c.Identity.SessionLifetime), CodeLifetime: time.Duration(c.Identity.CodeLifetime),
		LockAfter: c.Identity.LockAfter, LockFor: time.Duration(c.Identity.LockFor), Lockout: c.Identity.Lockout.identity(), Clock: clock, Log: log,
	}
	if err := c.credentials(&ic); err != nil {
		return nil, err
	}
	return identity.New(ic, l, keys, authority)
}

func openAuthority(c Config, l *ledger.Ledger, keys *keystore.Store, clock func() time.Time, monotonic func() time.Duration, discipline *tsa.Discipline) (*tsa.Authority, error) {
	key, err := readKey(l, keyTSA)
	if err != nil {
		return nil, err
	}
	roots, err := readRoots(l)
	if err != nil {
		return nil, err
	}
	config, err := authorityConfig(c, key, roots, l, keys, clock)
	if err != nil {
		return nil, err
	}
	config.Monotonic = monotonic
	if discipline != nil {
		config.Doubt = discipline.Doubt
	}
	return tsa.New(config)
}

// openCA makes the CA of the newest key.
func openCA(c Config, l *ledger.Ledger, keys *keystore.Store, clock func() time.Time) (*identity.CA, error) {
	ca, err := readKey(l, keyCA)
	if err != nil {
		return nil, err
	}
	roots, err := readRoots(l)
	if err != nil {
		return nil, err
	}
	return identity.NewCA(identity.CAConfig{
		Issuer: c.Issuer, Key: ca.ID, Certificate: ca.Certificate, Earlier: roots, PublicURL: c.Web.PublicURL, Keys: keys, Clock: clock,
	})
}

// authorityConfig describes the time-stamping authority of a key that one of the roots has certified.
func authorityConfig(c Config, key ownKey, roots []*x509.Certificate, l *ledger.Ledger, keys *keystore.Store, clock func() time.Time) (tsa.Config, error) {
	policy, err := parseOID(c.Timestamp.Policy)
	if err != nil {
		return tsa.Config{}, err
	}
	i := slices.IndexFunc(roots, func(root *x509.Certificate) bool {
		return key.Certificate != nil && key.Certificate.CheckSignatureFrom(root) == nil
	})
	if i < 0 {
		return tsa.Config{}, fmt.Errorf("%w: no CA of the ledger has certified the key %s", tsa.ErrConfig, key.ID)
	}
	return tsa.Config{
		Key: key.ID, Public: key.Public, Certificate: key.Certificate, Chain: roots[i : i+1], Policy: policy,
		Accuracy: time.Duration(c.Timestamp.Accuracy), Clock: clock, LastEntry: func() time.Time { return l.LastTime().Time() },
		Sign: func(ctx context.Context, message []byte) ([]byte, error) {
			return keys.Sign(ctx, key.ID, key.Public, message)
		},
	}, nil
}

func parseOID(s string) (asn1.ObjectIdentifier, error) {
	var oid asn1.ObjectIdentifier
	for part := range strings.SplitSeq(s, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("%w: timestamp.policy: %q is no OID", ErrConfig, s)
		}
		oid = append(oid, int(n))
	}
	if len(oid) < 2 {
		return nil, fmt.Errorf("%w: timestamp.policy: %q is no OID", ErrConfig, s)
	}
	return oid, nil
}

// streamWorkers is how many goroutines answer call after call; further calls at the same time get one of their own.
const streamWorkers = 64

// listenerOptions makes the gRPC server.
func (s *Server) listenerOptions() error {
	certificate, err := tls.LoadX509KeyPair(s.config.Path(s.config.Listen.Certificate), s.config.Path(s.config.Listen.Key))
	if err != nil {
		return fmt.Errorf("%w: listen: %w", ErrConfig, err)
	}
	g, err := newGate(s)
	if err != nil {
		return err
	}
	s.gate = g
	options := append(g.options(),
		grpc.Creds(doorCredentials{credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate},
			// Services show a certificate, people do not. It is pinned, or judged by the organisation's CA, with every call, not here: what
			// was withdrawn since the handshake does not call any more.
			ClientAuth: tls.RequestClientCert,
		})}),
		grpc.MaxRecvMsgSize(s.config.Limits.MessageBytes),
		grpc.MaxSendMsgSize(math.MaxInt32),
		// A call in a goroutine that has grown its stack before does not grow it again, which verifying a signature needs.
		grpc.NumStreamWorkers(streamWorkers),
		grpc.MaxConcurrentStreams(uint32(s.config.Limits.Calls)),
		grpc.MaxHeaderListSize(16<<10),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: 15 * time.Minute, Time: 2 * time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 20 * time.Second, PermitWithoutStream: true}),
	)
	s.grpc = grpc.NewServer(options...)
	signetv1.RegisterSigningServiceServer(s.grpc, signingService{Server: s})
	signetv1.RegisterRecordServiceServer(s.grpc, recordService{Server: s})
	signetv1.RegisterSignerServiceServer(s.grpc, signerService{Server: s})
	signetv1.RegisterSessionServiceServer(s.grpc, sessionService{Server: s})
	signetv1.RegisterKeyServiceServer(s.grpc, keyService{Server: s})
	signetv1.RegisterLedgerServiceServer(s.grpc, ledgerService{Server: s})
	signetv1.RegisterTimestampServiceServer(s.grpc, timestampService{Server: s})
	signetv1.RegisterProposalServiceServer(s.grpc, proposalService{Server: s})
	signetv1.RegisterCredentialServiceServer(s.grpc, credentialService{Server: s})
	signetv1.RegisterRightsServiceServer(s.grpc, rightsService{Server: s})
	signetv1.RegisterAlertServiceServer(s.grpc, alertService{Server: s})
	grpc_health_v1.RegisterHealthServer(s.grpc, s.health.public)
	reflection.Register(s.grpc)
	for service, info := range s.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			s.calls.known["/"+service+"/"+m.Name] = true
		}
	}
	return nil
}

// Listen opens the configured address.
func (s *Server) Listen() (net.Listener, error) {
	l, err := net.Listen("tcp", s.config.Listen.Address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w; is another server running? change listen.address", err)
	}
	return l, nil
}

// Serve answers calls on the listener until Stop. Health is SERVING once the HSM has made a real signature, and NOT_SERVING whenever it
// can't, the clock is in doubt, or the ledger has failed.
func (s *Server) Serve(l net.Listener) error {
	if !s.begin() {
		return errors.Join(grpc.ErrServerStopped, l.Close())
	}
	return s.grpc.Serve(s.door(l, "grpc", s.network.people, s.network.services))
}

// begin starts what runs beside the calls, unless Stop came first.
func (s *Server) begin() bool {
	s.starting.Lock()
	defer s.starting.Unlock()
	select {
	case <-s.stopping:
		return false
	default:
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stopHealth = cancel
	s.watchHealth(ctx)
	s.followIndex(ctx)
	s.keepArchiving(ctx)
	s.keepWitnessed(ctx)
	s.keepScrubbing(ctx)
	s.keepBracketing(ctx)
	s.keepTime(ctx)
	s.keepReviewed(ctx)
	s.keepCertificates(ctx)
	s.keepNotifying(ctx)
	s.keepRefusals(ctx)
	s.doors.serve(s.background.Go)
	return true
}

// Stop ends the service gracefully: no new calls, those in progress finish until ctx ends, and everything that was acknowledged
// is durable.
func (s *Server) Stop(ctx context.Context) error {
	s.health.public.Shutdown()
	s.starting.Lock()
	s.stopOnce.Do(func() { close(s.stopping) })
	s.starting.Unlock()
	done := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.log.Warn("calls in progress were cut off")
		s.grpc.Stop()
		<-done
	}
	if s.stopHealth != nil {
		s.stopHealth()
	}
	closed := s.doors.close()
	s.background.Wait()
	return errors.Join(closed, s.close())
}

func (s *Server) close() error {
	s.recorded.close(s.ledger)
	var err error
	if s.index != nil {
		err = s.index.Close()
	}
	err = errors.Join(err, s.ledger.Close(), s.closeArchive())
	if s.blobs != nil {
		err = errors.Join(err, s.blobs.Close())
	}
	return err
}

// CheckLedger replays the ledger of a data folder and compares everything with it. The server must not be running.
func CheckLedger(ctx context.Context, o Options, progress func(done, total uint64)) (LedgerReport, error) {
	o.defaults()
	lo, err := ledgerOptions(ctx, o)
	if err != nil {
		return LedgerReport{}, err
	}
	lo.CheckPrivate = identity.CheckPrivate
	r, err := ledger.Check(ctx, lo.Path, lo, progress)
	return reportLedger(r, err, lo.Path)
}

// LedgerReport is what [CheckLedger] found.
type LedgerReport struct {
	Entries     uint64        `json:"entries"`
	Root        string        `json:"root"` // of the tree, computed anew, hex
	Checkpoints uint64        `json:"checkpoints"`
	Attachments uint64        `json:"attachments"`
	Rows        uint64        `json:"rows"`   // of projections, each compared
	Faults      []LedgerFault `json:"faults"` // empty: everything is as the entries say
}

// LedgerFault is one thing that is not as the entries say.
type LedgerFault struct {
	Where string `json:"where"`
	What  string `json:"what"`
}
