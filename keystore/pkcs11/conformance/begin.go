package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	own "github.com/signetd/signet/keystore/pkcs11"
)

// begin loads the module, finds the token and logs in.
func (r *run) begin(ctx context.Context) error {
	digest, err := fileDigest(r.config.Module)
	if err != nil {
		return fmt.Errorf("%w: the PKCS#11 module cannot be read: %w", keystore.ErrUnavailable, err)
	}
	pin, err := r.config.PIN(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", keystore.ErrPIN, err)
	}
	if pin.Empty() {
		return fmt.Errorf("%w: the PIN is empty", keystore.ErrPIN)
	}
	r.pin = pin
	if r.module = pkcs11.New(r.config.Module); r.module == nil {
		return fmt.Errorf("%w: the PKCS#11 module %s cannot be loaded: it is no library, or one of its own libraries is missing (see `ldd`)",
			keystore.ErrUnavailable, r.config.Module)
	}
	if err := r.initialize(); err != nil {
		return err
	}
	info, err := r.module.GetInfo()
	if err != nil {
		return failed("C_GetInfo", err)
	}
	m := Module{
		Path: r.config.Module, SHA256: digest, Cryptoki: version(info.CryptokiVersion), Manufacturer: clean(info.ManufacturerID),
		Description: clean(info.LibraryDescription), Version: version(info.LibraryVersion),
	}
	r.update(func(report *Report) { report.Module = m })
	if err := r.findToken(); err != nil {
		return err
	}
	r.note(needModule, Check{Name: "the module loads and finds the token", Verdict: Fit,
		Saw: fmt.Sprintf("%s %s, Cryptoki %s", m.Description, m.Version, m.Cryptoki)})
	return r.connect()
}

func clean(s string) string { return strings.TrimRight(s, " \x00") }

func version(v pkcs11.Version) string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// findToken finds the one token that the configuration names.
func (r *run) findToken() error {
	slots, err := r.module.GetSlotList(true)
	if err != nil {
		return failed("C_GetSlotList", err)
	}
	var seen []string
	var match []pkcs11.TokenInfo
	for _, slot := range slots {
		info, err := r.module.GetTokenInfo(slot)
		if err != nil || info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			continue
		}
		label, serial := clean(info.Label), clean(info.SerialNumber)
		seen = append(seen, fmt.Sprintf("%q (serial number %s)", label, serial))
		if (r.config.TokenLabel == "" || label == r.config.TokenLabel) && (r.config.Serial == "" || serial == r.config.Serial) && r.config.URI.Matches(own.TokenInfo{
			Slot: slot, Label: label, Serial: serial, Manufacturer: clean(info.ManufacturerID), Model: clean(info.Model),
		}) {
			match, r.slot = append(match, info), slot
		}
	}
	if len(seen) == 0 {
		seen = []string{"none"}
	}
	wanted := fmt.Sprintf("label %q and serial number %q", r.config.TokenLabel, r.config.Serial)
	if r.config.URI != (own.URI{}) {
		wanted = fmt.Sprintf("%s, and URI %s", wanted, r.config.URI)
	}
	switch len(match) {
	case 0:
		return fmt.Errorf("%w: no token with %s; the module has %s", keystore.ErrUnavailable, wanted, strings.Join(seen, ", "))
	case 1:
		r.tell(match[0])
		return nil
	}
	return fmt.Errorf("%w: several tokens match %s; name one by its serial number: %s", keystore.ErrInvalid, wanted, strings.Join(seen, ", "))
}

var tokenFlags = []struct {
	bit  uint
	name string
}{
	{pkcs11.CKF_RNG, "CKF_RNG"},
	{pkcs11.CKF_WRITE_PROTECTED, "CKF_WRITE_PROTECTED"},
	{pkcs11.CKF_LOGIN_REQUIRED, "CKF_LOGIN_REQUIRED"},
	{pkcs11.CKF_USER_PIN_INITIALIZED, "CKF_USER_PIN_INITIALIZED"},
	{pkcs11.CKF_RESTORE_KEY_NOT_NEEDED, "CKF_RESTORE_KEY_NOT_NEEDED"},
	{pkcs11.CKF_CLOCK_ON_TOKEN, "CKF_CLOCK_ON_TOKEN"},
	{pkcs11.CKF_PROTECTED_AUTHENTICATION_PATH, "CKF_PROTECTED_AUTHENTICATION_PATH"},
	{pkcs11.CKF_DUAL_CRYPTO_OPERATIONS, "CKF_DUAL_CRYPTO_OPERATIONS"},
	{pkcs11.CKF_TOKEN_INITIALIZED, "CKF_TOKEN_INITIALIZED"},
	{pkcs11.CKF_SECONDARY_AUTHENTICATION, "CKF_SECONDARY_AUTHENTICATION"},
	{pkcs11.CKF_USER_PIN_COUNT_LOW, "CKF_USER_PIN_COUNT_LOW"},
	{pkcs11.CKF_USER_PIN_FINAL_TRY, "CKF_USER_PIN_FINAL_TRY"},
	{pkcs11.CKF_USER_PIN_LOCKED, "CKF_USER_PIN_LOCKED"},
	{pkcs11.CKF_USER_PIN_TO_BE_CHANGED, "CKF_USER_PIN_TO_BE_CHANGED"},
}

// tell records what the token says of itself.
func (r *run) tell(info pkcs11.TokenInfo) {
	t := Token{
		Slot: r.slot, Label: clean(info.Label), Serial: clean(info.SerialNumber), Manufacturer: clean(info.ManufacturerID),
		Model: clean(info.Model), Hardware: version(info.HardwareVersion), Firmware: version(info.FirmwareVersion),
		MinPIN: info.MinPinLen, MaxPIN: info.MaxPinLen, Flags: []string{},
	}
	if info.MaxSessionCount != ^uint(0) {
		t.MaxSessions = info.MaxSessionCount
	}
	for _, f := range tokenFlags {
		if info.Flags&f.bit != 0 {
			t.Flags = append(t.Flags, f.name)
		}
	}
	r.update(func(report *Report) { report.Token = t })
	if info.Flags&pkcs11.CKF_LOGIN_REQUIRED == 0 {
		r.note(needLogin, Check{Name: "a login is required", Verdict: Unfit, Saw: "the token lacks CKF_LOGIN_REQUIRED: whoever reaches it can use its keys",
			Do: "configure the token so that keys need the PIN"})
	} else {
		r.note(needLogin, Check{Name: "a login is required", Verdict: Fit, Saw: "CKF_LOGIN_REQUIRED"})
	}
	if info.Flags&pkcs11.CKF_PROTECTED_AUTHENTICATION_PATH != 0 {
		r.note(needLogin, Check{Name: "the PIN is given by the program", Verdict: Limits,
			Saw: "CKF_PROTECTED_AUTHENTICATION_PATH: the PIN is typed at the device",
			Do:  "somebody must be at the device whenever the service starts or recovers; use it for keys that stay offline, such as the CA's"})
	}
	if info.Flags&pkcs11.CKF_USER_PIN_TO_BE_CHANGED != 0 {
		r.note(needLogin, Check{Name: "the PIN is the user's own", Verdict: Limits, Saw: "CKF_USER_PIN_TO_BE_CHANGED",
			Do: "change the PIN with the token's own tool"})
	}
	if info.Flags&pkcs11.CKF_USER_PIN_COUNT_LOW != 0 {
		r.note(needLogin, Check{Name: "no wrong PIN was tried before", Verdict: Limits, Saw: "CKF_USER_PIN_COUNT_LOW: a wrong PIN was tried since the last login",
			Do: "find out who tried"})
	}
}

// sweep removes what an earlier run left.
func (r *run) sweep(ctx context.Context) error {
	found, others, err := r.owned(ctx)
	if err != nil {
		return err
	}
	shells, err := r.shells(ctx)
	if err != nil {
		return err
	}
	r.clean = len(shells) == 0
	removed, problem := r.destroyAll(found)
	r.update(func(report *Report) { report.Removed, report.Token.Objects = removed, others })
	if problem != nil {
		r.note(needRemoval, Check{Name: "objects of an earlier run can be removed", Verdict: Unfit, Saw: r.said(problem),
			Do: "remove the objects whose label begins with " + Prefix + " with the token's own tool"})
	}
	return nil
}

func (r *run) destroyAll(objects []pkcs11.ObjectHandle) (removed int, problem error) {
	for _, o := range objects {
		if err := r.module.DestroyObject(r.session, o); err != nil {
			problem = err
		} else {
			removed++
		}
	}
	return removed, problem
}

// cleanUp removes what this run made, however far it came, and leaves the module.
func (r *run) cleanUp(ctx context.Context) error {
	if r.module == nil || r.refused {
		return r.finalize()
	}
	err := r.removeOwn(ctx)
	return errors.Join(err, r.finalize())
}

func (r *run) removeOwn(ctx context.Context) error {
	// Whatever state the session is in, a new beginning is none.
	if err := r.finalize(); err != nil && r.report.Token.Label == "" {
		return err
	}
	if r.report.Token.Serial == "" && r.report.Token.Label == "" {
		return nil // no token was found, so nothing was made
	}
	if err := r.initialize(); err != nil {
		return err
	}
	if err := r.slotAgain(); err != nil {
		return err
	}
	if err := r.connect(); err != nil {
		return err
	}
	found, _, err := r.owned(ctx)
	if err != nil {
		return err
	}
	if r.clean {
		shells, err := r.shells(ctx)
		if err != nil {
			return err
		}
		found = append(found, shells...)
	}
	_, problem := r.destroyAll(found)
	rest, _, err := r.owned(ctx)
	if err != nil {
		return err
	}
	r.update(func(report *Report) { report.Left = len(rest) })
	if len(rest) > 0 {
		r.note(needRemoval, Check{Name: "what was made is removed", Verdict: Unfit, Saw: fmt.Sprintf("%d objects stay: %s", len(rest), r.said(problem)),
			Do: "remove the objects whose label begins with " + Prefix + " with the token's own tool"})
		return nil
	}
	r.note(needRemoval, Check{Name: "what was made is removed", Verdict: Fit, Saw: fmt.Sprintf("%d objects destroyed, none found afterwards", len(found))})
	return nil
}

// slotAgain finds the slot of the token once more: its number may change when the module is set up anew.
func (r *run) slotAgain() error {
	slots, err := r.module.GetSlotList(true)
	if err != nil {
		return failed("C_GetSlotList", err)
	}
	for _, slot := range slots {
		info, err := r.module.GetTokenInfo(slot)
		if err == nil && clean(info.Label) == r.report.Token.Label && clean(info.SerialNumber) == r.report.Token.Serial {
			r.slot = slot
			return nil
		}
	}
	return fmt.Errorf("%w: the token is not found any more after the module was set up anew", keystore.ErrUnavailable)
}
