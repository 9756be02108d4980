package conformance

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// code returns the CKR of an error of the wrapper, or CKR_OK.
func code(err error) uint {
	var e pkcs11.Error
	if errors.As(err, &e) {
		return uint(e)
	}
	return pkcs11.CKR_OK
}

// said is what a call answered, for people: "OK" or the name of the CKR.
func said(err error) string {
	if err == nil {
		return "OK"
	}
	if code(err) == pkcs11.CKR_OK {
		return err.Error()
	}
	switch rv := code(err); rv {
	case pkcs11.CKR_ACTION_PROHIBITED:
		return "CKR_ACTION_PROHIBITED" // the wrapper does not name it
	case pkcs11.CKR_VENDOR_DEFINED:
		return fmt.Sprintf("CKR_0x%08X", rv)
	default:
		if _, name, ok := strings.Cut(pkcs11.Error(rv).Error(), "CKR_"); ok {
			return "CKR_" + name
		}
		return fmt.Sprintf("CKR_0x%08X", rv)
	}
}

// said is what a call answered. That the device failed is remembered: it must not pass for a refusal.
func (r *run) said(err error) string {
	switch code(err) {
	case pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_DEVICE_MEMORY, pkcs11.CKR_TOKEN_NOT_PRESENT,
		pkcs11.CKR_TOKEN_NOT_RECOGNIZED, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED:
		r.failure = err
	}
	return said(err)
}

// failed is an error that ends the run.
func failed(call string, err error) error {
	if err == nil {
		return nil
	}
	switch code(err) {
	case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE:
		return fmt.Errorf("%w: %s: %s", keystore.ErrPIN, call, said(err))
	}
	return fmt.Errorf("%w: %s: %s", keystore.ErrUnavailable, call, said(err))
}

func attr(number uint, value any) *pkcs11.Attribute { return pkcs11.NewAttribute(number, value) }

func mechanism(number uint, parameter []byte) []*pkcs11.Mechanism {
	if parameter == nil {
		return []*pkcs11.Mechanism{pkcs11.NewMechanism(number, nil)}
	}
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(number, parameter)}
}

// connect opens the session that most of the run happens in, and logs in.
func (r *run) connect() error {
	session, err := r.module.OpenSession(r.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return failed("C_OpenSession for writing", err)
	}
	r.session, r.open = session, true
	return r.login(session)
}

// login logs in, unless the token says that a try could be the last.
func (r *run) login(session pkcs11.SessionHandle) error {
	if r.refused {
		return fmt.Errorf("%w: it is not tried again, so that the token is not locked", keystore.ErrPIN)
	}
	info, err := r.module.GetTokenInfo(r.slot)
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
	err = r.module.Login(session, pkcs11.CKU_USER, r.pin.Reveal())
	r.refused = err != nil
	return failed("C_Login", err)
}

// fresh replaces the session after something in it failed: an operation may still be active. The login lives on in another.
func (r *run) fresh() error {
	session, err := r.module.OpenSession(r.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return failed("C_OpenSession", err)
	}
	old := r.session
	r.session = session
	return failed("C_CloseSession", r.module.CloseSession(old))
}

// initialize loads the module's state. It must not have any in this process.
func (r *run) initialize() error {
	if conf := r.config.SoftHSMConf; conf != "" {
		if _, err := os.Stat(conf); err != nil {
			return fmt.Errorf("%w: the configuration of SoftHSM cannot be read: %w", keystore.ErrUnavailable, err)
		}
		if err := os.Setenv("SOFTHSM2_CONF", conf); err != nil {
			return err
		}
	}
	if err := r.module.Initialize(); err != nil {
		return failed("C_Initialize", err)
	}
	r.initialized = true
	return nil
}

func (r *run) finalize() error {
	if !r.initialized {
		return nil
	}
	r.initialized, r.open = false, false
	return failed("C_Finalize", r.module.Finalize())
}

// find returns the objects of a template.
func (r *run) find(session pkcs11.SessionHandle, template ...*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	if err := r.module.FindObjectsInit(session, template); err != nil {
		return nil, failed("C_FindObjectsInit", err)
	}
	var all []pkcs11.ObjectHandle
	for {
		page, _, err := r.module.FindObjects(session, 256)
		if err != nil {
			r.module.FindObjectsFinal(session)
			return nil, failed("C_FindObjects", err)
		}
		if len(page) == 0 {
			return all, failed("C_FindObjectsFinal", r.module.FindObjectsFinal(session))
		}
		all = append(all, page...)
	}
}

// value reads one attribute. It fails with what the module said.
func (r *run) value(object pkcs11.ObjectHandle, attribute uint) ([]byte, error) {
	got, err := r.module.GetAttributeValue(r.session, object, []*pkcs11.Attribute{attr(attribute, nil)})
	if err != nil {
		return nil, err
	}
	return got[0].Value, nil
}

// flag reads a CK_BBOOL: known is false where the module does not tell.
func (r *run) flag(object pkcs11.ObjectHandle, attribute uint) (set, known bool) {
	value, err := r.value(object, attribute)
	if err != nil || len(value) != 1 || value[0] > 1 {
		return false, false
	}
	return value[0] == 1, true
}

// text is an attribute's value for people, or "" where the module does not tell.
func (r *run) text(object pkcs11.ObjectHandle, attribute uint) string {
	value, err := r.value(object, attribute)
	switch {
	case err != nil:
		return ""
	case attribute == pkcs11.CKA_KEY_TYPE || attribute == pkcs11.CKA_KEY_GEN_MECHANISM:
		if n, ok := number(value); ok {
			return "0x" + strconv.FormatUint(n, 16)
		}
	case attribute == pkcs11.CKA_ALLOWED_MECHANISMS:
		var all []string
		for len(value) >= wordSize {
			n, _ := number(value[:wordSize])
			all, value = append(all, "0x"+strconv.FormatUint(n, 16)), value[wordSize:]
		}
		return strings.Join(all, " ")
	case len(value) == 1 && value[0] <= 1:
		return strconv.FormatBool(value[0] == 1)
	}
	return hex.EncodeToString(value)
}

const wordSize = strconv.IntSize / 8 // of a CK_ULONG, on the systems that this package is for

// number reads a CK_ULONG.
func number(value []byte) (uint64, bool) {
	switch len(value) {
	case 8:
		return binary.NativeEndian.Uint64(value), true
	case 4:
		return uint64(binary.NativeEndian.Uint32(value)), true
	}
	return 0, false
}

// word writes a CK_ULONG.
func word(n uint) []byte { return pkcs11.NewAttribute(0, n).Value }

// ours matches the labels of this package, of whatever run.
var ours = regexp.MustCompile(`^` + regexp.QuoteMeta(Prefix) + `[a-z2-7]{8}\.[a-z0-9.-]+$`)

// label returns the label of a key of this run.
func (r *run) label(name string) string { return Prefix + r.name + "." + name }

func keyNumber(label string) []byte {
	sum := sha256.Sum256([]byte(label))
	return sum[:16]
}

// owned lists the objects of this package in the token, and counts the keys of others.
func (r *run) owned(ctx context.Context) (found []pkcs11.ObjectHandle, others int, err error) {
	for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY, pkcs11.CKO_SECRET_KEY} {
		handles, err := r.find(r.session, attr(pkcs11.CKA_CLASS, class), attr(pkcs11.CKA_TOKEN, true))
		if err != nil {
			return nil, 0, err
		}
		for _, h := range handles {
			if ctx.Err() != nil {
				return nil, 0, expired(ctx)
			}
			if label, err := r.value(h, pkcs11.CKA_LABEL); err == nil && ours.Match(label) {
				found = append(found, h)
			} else {
				others++
			}
		}
	}
	return found, others, nil
}

// shells lists what SoftHSM leaves in the token when making a key fails: objects without any attribute, and keys that are not
// the token's and have neither name nor number. The module has just been initialised, so they are not in the memory of a
// session, and nobody can use them.
func (r *run) shells(ctx context.Context) ([]pkcs11.ObjectHandle, error) {
	found, err := r.find(r.session)
	if err != nil {
		return nil, err
	}
	var all []pkcs11.ObjectHandle
	for _, h := range found {
		if ctx.Err() != nil {
			return nil, expired(ctx)
		}
		if _, err := r.value(h, pkcs11.CKA_CLASS); code(err) == pkcs11.CKR_ATTRIBUTE_VALUE_INVALID {
			all = append(all, h)
			continue
		}
		if kept, known := r.flag(h, pkcs11.CKA_TOKEN); kept || !known {
			continue
		}
		label, lerr := r.value(h, pkcs11.CKA_LABEL)
		number, nerr := r.value(h, pkcs11.CKA_ID)
		if lerr == nil && nerr == nil && len(label) == 0 && len(number) == 0 {
			all = append(all, h)
		}
	}
	return all, nil
}

// fileDigest is the SHA-256 of a file, in hex.
func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
