package pkcs11

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// An InitConfig says which token to make.
type InitConfig struct {
	Module      string // absolute path
	SoftHSMConf string // as in Config
	Label       string // 1 to 32 bytes of ASCII, not yet used by a token of the module
	SOPIN       keystore.Secret
	PIN         keystore.Secret
}

const maxTokenLabel = 32

// InitToken makes a token in a slot whose token was never initialised (SoftHSM always has one), with both PINs, and returns
// what it is. It never touches a token that is in use.
func InitToken(ctx context.Context, c InitConfig) (TokenInfo, error) {
	if err := c.check(); err != nil {
		return TokenInfo{}, err
	}
	if err := ctx.Err(); err != nil {
		return TokenInfo{}, expired(ctx)
	}
	folder, err := tokenFolder(c.SoftHSMConf)
	if err != nil {
		return TokenInfo{}, fmt.Errorf("%w: %w", keystore.ErrUnavailable, err)
	}
	m, err := load(ctx, c.Module)
	if err != nil {
		return TokenInfo{}, err
	}
	made := make(chan TokenInfo, 1)
	err = m.ask(ctx, defaultHang, func() error {
		if err := m.acquire(c.SoftHSMConf); err != nil {
			return err
		}
		info, err := m.initToken(c)
		if err == nil {
			if serr := syncFolder(folder, processStart.AddDate(-100, 0, 0)); serr != nil {
				err = fmt.Errorf("%w: the new token could not be made durable: %w", keystore.ErrUnavailable, serr)
			}
		}
		made <- info
		return errors.Join(err, m.release())
	})
	if err != nil {
		return TokenInfo{}, err
	}
	return <-made, nil
}

func (c InitConfig) check() error {
	if len(c.Label) == 0 || len(c.Label) > maxTokenLabel || c.Label[len(c.Label)-1] == ' ' {
		return fmt.Errorf("%w: a token's label has 1 to %d bytes and no blank at its end", keystore.ErrInvalid, maxTokenLabel)
	}
	for i := range len(c.Label) {
		if c.Label[i] < ' ' || c.Label[i] > '~' {
			return fmt.Errorf("%w: a token's label is printable ASCII", keystore.ErrInvalid)
		}
	}
	if c.SOPIN.Empty() || c.PIN.Empty() {
		return fmt.Errorf("%w: a token needs a security officer's PIN and a user's PIN", keystore.ErrPIN)
	}
	if c.SOPIN.Reveal() == c.PIN.Reveal() {
		return fmt.Errorf("%w: the security officer's PIN and the user's PIN must differ", keystore.ErrPIN)
	}
	return nil
}

func (m *module) initToken(c InitConfig) (TokenInfo, error) {
	m.objects.Lock()
	defer m.objects.Unlock()
	before, err := m.tokensLocked()
	if err != nil {
		return TokenInfo{}, err
	}
	slot, free := uint(0), false
	for _, t := range before {
		if t.Initialized && t.Label == c.Label {
			return TokenInfo{}, fmt.Errorf("%w: there is a token with the label %q already", keystore.ErrExists, c.Label)
		}
		if !t.Initialized && !free {
			slot, free = t.Slot, true
		}
	}
	if !free {
		return TokenInfo{}, fmt.Errorf("%w: the module has no slot with a token to initialise", keystore.ErrUnavailable)
	}
	if err := m.ctx.InitToken(slot, c.SOPIN.Reveal(), c.Label); err != nil {
		return TokenInfo{}, failed("C_InitToken", err)
	}
	after, err := m.tokensLocked() // SoftHSM adds a slot for the next one now
	if err != nil {
		return TokenInfo{}, err
	}
	info, err := pick(after, c.Label, "")
	if err != nil {
		return TokenInfo{}, err
	}
	session, err := m.ctx.OpenSession(info.Slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return TokenInfo{}, failed("C_OpenSession", err)
	}
	err = m.initPIN(session, c)
	return info, errors.Join(err, failed("C_CloseSession", m.ctx.CloseSession(session)))
}

func (m *module) initPIN(session pkcs11.SessionHandle, c InitConfig) error {
	if err := m.ctx.Login(session, pkcs11.CKU_SO, c.SOPIN.Reveal()); err != nil {
		return failed("C_Login as security officer", err)
	}
	err := failed("C_InitPIN", m.ctx.InitPIN(session, c.PIN.Reveal()))
	return errors.Join(err, failed("C_Logout", m.ctx.Logout(session)))
}
