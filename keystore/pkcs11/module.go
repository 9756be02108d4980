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

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// PKCS#11 makes a module's state process-wide (v2.40, section 5.4: C_Initialize once a process), so what we know of it
// is process-wide, too.
var modules = struct {
	sync.Mutex
	loaded map[native]*module
}{loaded: make(map[native]*module)}

// A module is a loaded library. It stays loaded; it is initialised while anybody uses it.
type module struct {
	path   string
	native native
	ctx    *pkcs11.Ctx

	// Guarded by the lock of modules.
	users int             // tokens and initialisations that use it; initialised while there are any
	conf  string          // the SOFTHSM2_CONF it was initialised with
	open  map[string]bool // serial numbers of the tokens that are open
	stuck int             // tokens that are closed, but for a call that hangs

	// objects is held while objects are searched for, made or destroyed. Signing stays outside.
	objects sync.Mutex

	pinKey  [32]byte // of refused, fresh for each process
	refused sync.Map // MACs of serial numbers with a PIN that was refused
}

// acquire loads a module if it is not loaded and initialises it if nobody else uses it. It must be released.
func acquire(path, conf string) (*module, error) {
	if path == "" {
		return nil, fmt.Errorf("%w: no PKCS#11 module given", keystore.ErrInvalid)
	}
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("%w: the PKCS#11 module must be an absolute path, not %q", keystore.ErrInvalid, path)
	}
	if info, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w: the PKCS#11 module cannot be loaded: %w", keystore.ErrUnavailable, err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: the PKCS#11 module %s is not a file", keystore.ErrInvalid, path)
	}

	modules.Lock()
	defer modules.Unlock()
	n, err := loadNative(path)
	if err != nil {
		return nil, fmt.Errorf("%w: the PKCS#11 module %s cannot be loaded: %w", keystore.ErrUnavailable, path, err)
	}
	m := modules.loaded[n]
	if m == nil {
		ctx := pkcs11.New(path) // the same instance as n
		if ctx == nil {
			return nil, fmt.Errorf("%w: the PKCS#11 module %s cannot be loaded", keystore.ErrUnavailable, path)
		}
		m = &module{path: path, native: n, ctx: ctx, open: make(map[string]bool)}
		rand.Read(m.pinKey[:])
		modules.loaded[n] = m
	}
	if m.stuck > 0 {
		return nil, m.stuckError()
	}
	if m.users == 0 {
		if conf != "" {
			if _, err := os.Stat(conf); err != nil {
				return nil, fmt.Errorf("%w: the configuration of SoftHSM cannot be read: %w", keystore.ErrUnavailable, err)
			}
			if err := os.Setenv(confVariable, conf); err != nil { // also for C, as this program uses cgo
				return nil, err
			}
		}
		switch err := m.ctx.Initialize(); code(err) {
		case pkcs11.CKR_OK:
		case pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED:
			return nil, fmt.Errorf("%w: another part of this program has initialised the PKCS#11 module %s",
				keystore.ErrUnavailable, path)
		default:
			if conf != "" {
				err = fmt.Errorf("%w (is %s right?)", err, conf)
			}
			return nil, failed("C_Initialize of "+path, err)
		}
		m.conf = conf
	} else if conf != "" && conf != m.conf {
		return nil, fmt.Errorf("%w: the PKCS#11 module %s is in use with %s=%s; one process has one configuration",
			keystore.ErrInvalid, path, confVariable, m.conf)
	}
	m.users++
	return m, nil
}

// release ends one use of a module. The last one finalises it, so no call of the user may still be running.
func (m *module) release() error {
	modules.Lock()
	defer modules.Unlock()
	if m.users--; m.users > 0 {
		return nil
	}
	return failed("C_Finalize", m.ctx.Finalize())
}

// hangs keeps a module from being finalised or used by anybody new while a call to it does not return: C_Finalize during C_Sign
// crashes. returned ends that.
func (m *module) hangs() error {
	modules.Lock()
	defer modules.Unlock()
	m.stuck++
	return m.stuckError()
}

func (m *module) returned() {
	modules.Lock()
	defer modules.Unlock()
	m.stuck--
}

func (m *module) stuckError() error {
	return fmt.Errorf("%w: a call to the PKCS#11 module %s does not return; if it stays so, restart this program",
		keystore.ErrUnavailable, m.path)
}

// claim takes a token for the caller alone: in one process all sessions of a token share one login, so a second user
// could neither check its PIN nor log out.
func (m *module) claim(serial string) error {
	modules.Lock()
	defer modules.Unlock()
	if m.open[serial] {
		return fmt.Errorf("%w: the token with serial number %s is open in this process already", keystore.ErrInvalid, serial)
	}
	m.open[serial] = true
	return nil
}

func (m *module) unclaim(serial string) {
	modules.Lock()
	defer modules.Unlock()
	delete(m.open, serial)
}

func (m *module) macPIN(serial string, pin keystore.Secret) [32]byte {
	mac := hmac.New(sha256.New, m.pinKey[:])
	mac.Write([]byte(serial))
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
		return failed("C_GetTokenInfo", err)
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
	mac := m.macPIN(info.SerialNumber, pin)
	if _, refused := m.refused.Load(mac); refused {
		return fmt.Errorf("%w: %w", keystore.ErrPIN, errSamePIN)
	}
	err = m.ctx.Login(session, pkcs11.CKU_USER, pin.Reveal())
	switch code(err) {
	case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_INVALID,
		pkcs11.CKR_PIN_LEN_RANGE:
		m.refused.Store(mac, true)
	}
	return failed("C_Login", err)
}
