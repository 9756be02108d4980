package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// A TokenInfo says what is in a slot.
type TokenInfo struct {
	Module       string // path
	Slot         uint
	Label        string
	Serial       string
	Manufacturer string
	Model        string
	Firmware     string
	MaxSessions  uint // 0 if there is no bound or the token does not tell
	Initialized  bool
}

// id tells a token from the others of its module. The serial number alone does not: NSS and openCryptoki give all their
// tokens the same.
func (t TokenInfo) id() string { return t.Serial + "\x00" + t.Label }

// Tokens lists the tokens of a module. It waits for at most a minute.
func Tokens(module, softHSMConf string) ([]TokenInfo, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	m, err := load(ctx, module)
	if err != nil {
		return nil, err
	}
	listed := make(chan []TokenInfo, 1)
	err = m.ask(ctx, defaultHang, func() error {
		if err := m.acquire(softHSMConf); err != nil {
			return err
		}
		tokens, err := m.tokens()
		listed <- tokens
		return errors.Join(err, m.release())
	})
	if err != nil {
		return nil, err
	}
	return <-listed, nil
}

// tokens asks for the list with its length first, which is when SoftHSM looks what there is.
func (m *module) tokens() ([]TokenInfo, error) {
	m.objects.Lock()
	defer m.objects.Unlock()
	return m.tokensLocked()
}

func (m *module) tokensLocked() ([]TokenInfo, error) {
	slots, err := m.ctx.GetSlotList(true)
	if err != nil {
		return nil, failedAsking("C_GetSlotList", err)
	}
	var tokens []TokenInfo
	for _, slot := range slots {
		info, err := m.ctx.GetTokenInfo(slot)
		switch code(err) {
		case pkcs11.CKR_OK:
		case pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_TOKEN_NOT_RECOGNIZED, pkcs11.CKR_SLOT_ID_INVALID:
			continue // removed meanwhile, or none of ours
		default:
			return nil, failedAsking("C_GetTokenInfo", err)
		}
		t := TokenInfo{
			Module: m.path, Slot: slot, Label: clean(info.Label), Serial: clean(info.SerialNumber), Manufacturer: clean(info.ManufacturerID),
			Model: clean(info.Model), Firmware: fmt.Sprintf("%d.%d", info.FirmwareVersion.Major, info.FirmwareVersion.Minor),
			Initialized: info.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0,
		}
		if info.MaxSessionCount != ckUnavailableInformation && info.MaxSessionCount != ckEffectivelyInfinite {
			t.MaxSessions = info.MaxSessionCount
		}
		tokens = append(tokens, t)
	}
	return tokens, nil
}

// clean takes the padding off a fixed-length text: blanks, or zero bytes where a module got it wrong.
func clean(s string) string { return strings.TrimRight(s, " \x00") }

// pick returns the one initialised token with this label and serial number; an empty one matches any.
func pick(tokens []TokenInfo, label, serial string) (TokenInfo, error) {
	var found, seen []string
	var match TokenInfo
	for _, t := range tokens {
		if !t.Initialized {
			continue
		}
		name := fmt.Sprintf("%q (serial number %s)", t.Label, t.Serial)
		seen = append(seen, name)
		if (label == "" || t.Label == label) && (serial == "" || t.Serial == serial) {
			match, found = t, append(found, name)
		}
	}
	switch len(found) {
	case 1:
		return match, nil
	case 0:
		have := "none"
		if len(seen) > 0 {
			have = strings.Join(seen, ", ")
		}
		return TokenInfo{}, &passingError{fmt.Errorf("%w: no token with label %q and serial number %q; the module has %s",
			keystore.ErrUnavailable, label, serial, have)}
	default:
		return TokenInfo{}, fmt.Errorf("%w: several tokens match label %q: %s; name one by its serial number",
			keystore.ErrInvalid, label, strings.Join(found, ", "))
	}
}
