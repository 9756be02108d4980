package pkcs11

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// PKCS#11 makes a module's state process-wide (v2.40, section 5.4: C_Initialize once a process), so what we know of it
// is process-wide, too.
var modules = struct {
	sync.Mutex
	byPath map[string]*loading
	loaded map[native]*module
}{byPath: make(map[string]*loading), loaded: make(map[native]*module)}

// A loading is a module on its way into memory. Its fields are set when done is closed.
type loading struct {
	done   chan struct{}
	module *module
	err    error
}

// A module is a loaded library. It stays loaded; it is initialised while anybody uses it. All that concerns it as a whole
// happens in its keeper, one thing at a time: see keeper.go.
type module struct {
	path   string
	native native
	ctx    *pkcs11.Ctx

	// Used by the keeper only.
	users       int    // tokens and initialisations that use it; initialised while there are any
	conf        string // the SOFTHSM2_CONF it was initialised with
	initialized bool
	dirty       bool // C_Finalize or C_Initialize failed, so that the module may be initialised all the same

	// objects is held while objects are searched for, made or destroyed. Signing stays outside.
	objects sync.Mutex

	// mu is never held during a call of PKCS#11. It guards the following, and what a token has of it.
	mu         sync.Mutex
	open       map[string]*Token // by TokenInfo.id
	calls      int               // calls of all tokens that are in the module
	empty      chan struct{}     // is told when there are none left
	generation uint64            // changes when it is initialised or finalised: sessions of another generation mean something else
	stuck      int               // tokens that are closed, but for a call that hangs
	jobs       []*job
	keeping    bool          // the keeper runs
	wake       chan struct{} // is told when the keeper has something new to look at
	cost       time.Duration // of the last attempt to set it up anew
	ended      time.Time     // when that was over
	credit     time.Time     // attempts come one after the other until this is far ahead: see spend

	keeper busy

	pinKey  [32]byte // of the two below, fresh for each process
	refused sync.Map // MACs of tokens with a PIN that they refused
	doubted sync.Map // MACs of those with a doubtful login, and whether the token spoke of a wrong PIN before
}

// load returns the module of a path, loading it if that has not been done. No call of the system takes a deadline either, so
// it is loaded beside the caller, once for all who ask.
func load(ctx context.Context, path string) (*module, error) {
	if path == "" {
		return nil, fmt.Errorf("%w: no PKCS#11 module given", keystore.ErrInvalid)
	}
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("%w: the PKCS#11 module must be an absolute path, not %q", keystore.ErrInvalid, path)
	}
	modules.Lock()
	l := modules.byPath[path]
	if l == nil {
		l = &loading{done: make(chan struct{})}
		modules.byPath[path] = l
		go l.load(path)
	}
	modules.Unlock()
	select {
	case <-l.done:
		return l.module, l.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: loading the PKCS#11 module %s: %w", keystore.ErrUnavailable, path, context.Cause(ctx))
	}
}

func (l *loading) load(path string) {
	defer close(l.done)
	l.module, l.err = loadModule(path)
	// The next one looks at the file again; a module that is loaded is found again.
	modules.Lock()
	defer modules.Unlock()
	delete(modules.byPath, path)
}

func loadModule(path string) (*module, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w: the PKCS#11 module cannot be loaded: %w", keystore.ErrUnavailable, err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: the PKCS#11 module %s is not a file", keystore.ErrInvalid, path)
	}
	n, err := loadNative(path)
	if err != nil {
		return nil, fmt.Errorf("%w: the PKCS#11 module %s cannot be loaded: %w", keystore.ErrUnavailable, path, err)
	}
	modules.Lock()
	m := modules.loaded[n]
	modules.Unlock()
	if m != nil {
		return m, nil
	}
	ctx := pkcs11.New(path) // the same instance as n
	if ctx == nil {
		return nil, fmt.Errorf("%w: the PKCS#11 module %s cannot be loaded", keystore.ErrUnavailable, path)
	}
	modules.Lock()
	defer modules.Unlock()
	if m := modules.loaded[n]; m != nil { // meanwhile, by another path to it
		return m, nil
	}
	m = &module{
		path: path, native: n, ctx: ctx,
		open: make(map[string]*Token), empty: make(chan struct{}, 1), wake: make(chan struct{}, 1),
	}
	rand.Read(m.pinKey[:])
	modules.loaded[n] = m
	return m, nil
}

// acquire initialises the module if nobody else uses it. It must be released. Like release it is for the keeper.
func (m *module) acquire(conf string) error {
	if err := m.stuckError(); err != nil {
		return err
	}
	switch {
	case m.users == 0:
		if err := m.initialize(conf); err != nil {
			return err
		}
		m.conf = conf
	case conf != "" && conf != m.conf:
		return fmt.Errorf("%w: the PKCS#11 module %s is in use with %s=%s; one process has one configuration",
			keystore.ErrInvalid, m.path, confVariable, m.conf)
	case !m.initialized:
		return fmt.Errorf("%w: the PKCS#11 module %s failed and is being set up anew", keystore.ErrUnavailable, m.path)
	}
	m.users++
	return nil
}

// release ends one use of the module. The last one finalises it, so no call of the user may still be running.
func (m *module) release() error {
	if m.users--; m.users > 0 || !m.initialized {
		return nil
	}
	return m.finalize()
}

func (m *module) initialize(conf string) error {
	if conf != "" {
		unlock, err := lockConf(conf)
		if err != nil {
			return err
		}
		defer unlock()
	}
	err := m.ctx.Initialize()
	if code(err) == pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED && m.dirty {
		_ = m.ctx.Finalize()
		err = m.ctx.Initialize()
	}
	switch rv := code(err); {
	case rv == pkcs11.CKR_OK:
	case rv == pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED && m.dirty: // by us, and what it still has of us is not used
	case rv == pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED:
		return fmt.Errorf("%w: another part of this program has initialised the PKCS#11 module %s", keystore.ErrUnavailable, m.path)
	default:
		m.dirty = true // it may have happened all the same
		if conf != "" {
			err = fmt.Errorf("%w (is %s right?)", err, conf)
		}
		return failed("C_Initialize of "+m.path, err)
	}
	m.initialized, m.dirty = true, false
	m.nextGeneration()
	return nil
}

func (m *module) nextGeneration() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.generation++
}

func (m *module) finalize() error {
	m.initialized = false
	m.nextGeneration() // no session is of the module any more
	err := m.ctx.Finalize()
	m.dirty = err != nil // whatever it says: only C_Initialize shows whether it is
	if code(err) == pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED {
		return nil
	}
	return failed("C_Finalize", err)
}

// confLock has one place for who lets a module read the configuration that the environment names: the environment is the
// process's. It is a channel so that one module that hangs does not keep the others waiting for ever.
var confLock = make(chan struct{}, 1)

func lockConf(conf string) (unlock func(), err error) {
	if _, err := os.Stat(conf); err != nil {
		return nil, fmt.Errorf("%w: the configuration of SoftHSM cannot be read: %w", keystore.ErrUnavailable, err)
	}
	patience := time.NewTimer(defaultHang)
	defer patience.Stop()
	select {
	case confLock <- struct{}{}:
	case <-patience.C:
		return nil, fmt.Errorf("%w: another PKCS#11 module that reads its configuration does not return", keystore.ErrUnavailable)
	}
	unlock = func() { <-confLock }
	if err := os.Setenv(confVariable, conf); err != nil { // also for C, as this program uses cgo
		unlock()
		return nil, err
	}
	return unlock, nil
}

// hangs keeps a module from being used by anybody new while a call of a token that was closed does not return. It is nil if the
// call returned meanwhile. returned ends that.
func (m *module) hangs(t *Token) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t.departed {
		return nil
	}
	t.stuck = true
	m.stuck++
	return m.notReturning()
}

func (m *module) returned(t *Token) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t.departed = true
	if t.stuck {
		m.stuck--
	}
}

func (m *module) stuckError() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stuck == 0 {
		return nil
	}
	return m.notReturning()
}

func (m *module) notReturning() error {
	return unavailable(hangRetry, fmt.Errorf("a call to the PKCS#11 module %s does not return; if it stays so, restart this program",
		m.path))
}

func (m *module) macPIN(token string, pin keystore.Secret) [32]byte {
	mac := hmac.New(sha256.New, m.pinKey[:])
	mac.Write([]byte(token))
	mac.Write([]byte{0})
	mac.Write([]byte(pin.Reveal()))
	return [32]byte(mac.Sum(nil))
}

var errSamePIN = errors.New("this PIN was refused before and is not tried again, so that the token is not locked: " +
	"correct it")

// login logs a session in as user. It never tries a PIN twice that was refused, nor one when the token says that it is the
// last try.
func (m *module) login(ctx context.Context, slot uint, session pkcs11.SessionHandle, source keystore.PINSource) error {
	info, err := m.ctx.GetTokenInfo(slot)
	if err != nil {
		return failedAsking("C_GetTokenInfo", err)
	}
	switch {
	case info.Flags&pkcs11.CKF_USER_PIN_INITIALIZED == 0:
		return fmt.Errorf("%w: the token has no user PIN yet; initialise it first", keystore.ErrPIN)
	case info.Flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
		return fmt.Errorf("%w: the user PIN is locked; the token's security officer must set a new one", keystore.ErrPIN)
	case info.Flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		return fmt.Errorf("%w: the token allows one more try, which is left to a person: log in once with the token's own tool",
			keystore.ErrPIN)
	}
	if source == nil {
		return fmt.Errorf("%w: no PIN given", keystore.ErrPIN)
	}
	pin, err := source(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", keystore.ErrPIN, err)
	}
	mac := m.macPIN(TokenInfo{Label: clean(info.Label), Serial: clean(info.SerialNumber)}.id(), pin)
	if _, refused := m.refused.Load(mac); refused {
		return fmt.Errorf("%w: %w", keystore.ErrPIN, errSamePIN)
	}
	low := info.Flags&pkcs11.CKF_USER_PIN_COUNT_LOW != 0
	if wasLow, doubted := m.doubted.Load(mac); doubted && low && !wasLow.(bool) {
		m.refused.Store(mac, true)
		return fmt.Errorf("%w: the last login failed without saying why, and the token has counted a wrong PIN since: %w", keystore.ErrPIN, errSamePIN)
	}
	err = m.ctx.Login(session, pkcs11.CKU_USER, pin.Reveal())
	switch rv := code(err); {
	case err == nil:
		m.doubted.Delete(mac)
	case rv == pkcs11.CKR_USER_PIN_NOT_INITIALIZED: // though its flags say that there is one
		return &passingError{failed("C_Login", err)}
	case meaningOf(rv) == pinRefused:
		m.refused.Store(mac, true)
	case meaningOf(rv) == doubtful:
		m.doubted.LoadOrStore(mac, low)
		return &passingError{failed("C_Login", err)}
	}
	return failed("C_Login", err)
}
