package pkcs11

import (
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/signetd/signet/keystore"
)

// A URI is a PKCS#11 URI (RFC 7512): it names a token, or an object in one, as other tools do. Values are as they are in the
// token, without percent-encoding; what is empty is not given. Two URIs are equal if they say the same.
type URI struct {
	// Of the token.
	Token, Manufacturer, Serial, Model string

	// Of the slot and the module. SlotID is a decimal number.
	SlotDescription, SlotManufacturer, SlotID               string
	LibraryManufacturer, LibraryDescription, LibraryVersion string

	// Of the object. ID has the bytes of CKA_ID, Type is one of the URI types.
	Object, ID, Type string

	// Where the module is.
	ModulePath, ModuleName string
}

// The types of objects that a URI can ask for.
const (
	URIPrivate = "private"
	URIPublic  = "public"
	URICert    = "cert"
)

const (
	uriScheme = "pkcs11:"
	maxURI    = 4096
)

var uriTypes = []string{URIPublic, URIPrivate, URICert, "secret-key", "data"}

// A uriAttribute is one that RFC 7512 defines.
type uriAttribute struct {
	name  string
	query bool
	field func(*URI) *string
	check func(string) error
}

// uriAttributes is in the order in which they are written.
var uriAttributes = []uriAttribute{
	{"token", false, func(u *URI) *string { return &u.Token }, checkText},
	{"manufacturer", false, func(u *URI) *string { return &u.Manufacturer }, checkText},
	{"serial", false, func(u *URI) *string { return &u.Serial }, checkText},
	{"model", false, func(u *URI) *string { return &u.Model }, checkText},
	{"library-manufacturer", false, func(u *URI) *string { return &u.LibraryManufacturer }, checkText},
	{"library-description", false, func(u *URI) *string { return &u.LibraryDescription }, checkText},
	{"library-version", false, func(u *URI) *string { return &u.LibraryVersion }, checkVersion},
	{"slot-manufacturer", false, func(u *URI) *string { return &u.SlotManufacturer }, checkText},
	{"slot-description", false, func(u *URI) *string { return &u.SlotDescription }, checkText},
	{"slot-id", false, func(u *URI) *string { return &u.SlotID }, checkNumber},
	{"object", false, func(u *URI) *string { return &u.Object }, checkText},
	{"type", false, func(u *URI) *string { return &u.Type }, checkType},
	{"id", false, func(u *URI) *string { return &u.ID }, func(string) error { return nil }},
	{"module-name", true, func(u *URI) *string { return &u.ModuleName }, checkText},
	{"module-path", true, func(u *URI) *string { return &u.ModulePath }, checkPath},
}

// ParseURI reads a URI strictly: no attribute twice, none that RFC 7512 does not define, none without a value. A PIN has no place
// in it: pin-value shows it in files, logs and lists of processes, and where Signet gets the PIN is a setting of its own. As
// somebody may have put one there, errors never repeat what the URI says.
func ParseURI(s string) (URI, error) {
	fail := func(format string, a ...any) (URI, error) {
		return URI{}, fmt.Errorf("%w: PKCS#11 URI: %w", keystore.ErrInvalid, fmt.Errorf(format, a...))
	}
	if len(s) > maxURI {
		return fail("longer than %d bytes", maxURI)
	}
	if len(s) < len(uriScheme) || !strings.EqualFold(s[:len(uriScheme)], uriScheme) {
		return fail("it does not begin with %s", uriScheme)
	}
	path, query, hasQuery := strings.Cut(s[len(uriScheme):], "?")
	var u URI
	read := func(part, separator string, isQuery bool) error {
		for i, item := range strings.Split(part, separator) {
			name, value, ok := strings.Cut(item, "=")
			where := fmt.Sprintf("attribute %d of the %s", i+1, map[bool]string{false: "path", true: "query"}[isQuery])
			if !ok {
				return fmt.Errorf("%s has no value", where)
			}
			if name == "pin-value" || name == "pin-source" {
				return fmt.Errorf("%s is %s: leave it out, and set the source of the PIN in the configuration", where, name)
			}
			at := slices.IndexFunc(uriAttributes, func(a uriAttribute) bool { return a.name == name && a.query == isQuery })
			if at < 0 {
				return fmt.Errorf("%s is none that RFC 7512 defines there", where)
			}
			a := uriAttributes[at]
			decoded, err := decodeURI(value, isQuery)
			if err == nil {
				err = a.check(decoded)
			}
			if err == nil && decoded == "" {
				err = fmt.Errorf("its value is empty")
			}
			if err != nil {
				return fmt.Errorf("%s, %s: %w", where, name, err)
			}
			field := a.field(&u)
			if *field != "" {
				return fmt.Errorf("%s is a second %s", where, name)
			}
			if a.name == "slot-id" {
				decoded = strings.TrimLeft(decoded[:len(decoded)-1], "0") + decoded[len(decoded)-1:]
			}
			*field = decoded
		}
		return nil
	}
	if path != "" {
		if err := read(path, ";", false); err != nil {
			return fail("%w", err)
		}
	}
	if hasQuery {
		if err := read(query, "&", true); err != nil {
			return fail("%w", err)
		}
	}
	return u, nil
}

// Validate reports whether the URI can be written and is read again as it is.
func (u URI) Validate() error {
	for _, a := range uriAttributes {
		if value := *a.field(&u); value != "" {
			if err := a.check(value); err != nil {
				return fmt.Errorf("%w: PKCS#11 URI: %s: %w", keystore.ErrInvalid, a.name, err)
			}
		}
	}
	if len(u.String()) > maxURI {
		return fmt.Errorf("%w: PKCS#11 URI: longer than %d bytes", keystore.ErrInvalid, maxURI)
	}
	return nil
}

// String writes the URI: attributes in one order, everything percent-encoded but letters, digits and "-._~", the bytes of an id
// all, the slashes of a path not.
func (u URI) String() string {
	var path, query []string
	for _, a := range uriAttributes {
		value := *a.field(&u)
		if value == "" {
			continue
		}
		item := a.name + "=" + encodeURI(value, a.name == "id", a.name == "module-path")
		if a.query {
			query = append(query, item)
		} else {
			path = append(path, item)
		}
	}
	s := uriScheme + strings.Join(path, ";")
	if len(query) > 0 {
		s += "?" + strings.Join(query, "&")
	}
	return s
}

// Characters that stand for themselves in a value: RFC 7512, section 2.3.
const (
	uriUnreserved = "-._~"
	uriInBoth     = ":[]@!$'()*+,="
	uriInPath     = "&"
	uriInQuery    = "/?|"
)

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func decodeURI(value string, query bool) (string, error) {
	more := uriInPath
	if query {
		more = uriInQuery
	}
	decoded := make([]byte, 0, len(value))
	for i := 0; i < len(value); i++ {
		c := value[i]
		switch {
		case c == '%':
			if i+2 >= len(value) {
				return "", fmt.Errorf("a %% without two hex digits at byte %d of the value", i+1)
			}
			b, err := hex.DecodeString(value[i+1 : i+3])
			if err != nil {
				return "", fmt.Errorf("a %% without two hex digits at byte %d of the value", i+1)
			}
			decoded = append(decoded, b[0])
			i += 2
		case isAlphanumeric(c), strings.IndexByte(uriUnreserved+uriInBoth, c) >= 0, strings.IndexByte(more, c) >= 0:
			decoded = append(decoded, c)
		default:
			return "", fmt.Errorf("byte %d of the value must be percent-encoded", i+1)
		}
	}
	return string(decoded), nil
}

func encodeURI(value string, all, slashes bool) string {
	var b strings.Builder
	for i := range len(value) {
		c := value[i]
		if !all && (isAlphanumeric(c) || strings.IndexByte(uriUnreserved, c) >= 0 || slashes && c == '/') {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func checkText(value string) error {
	if !utf8.ValidString(value) {
		return fmt.Errorf("it is not UTF-8")
	}
	if strings.ContainsFunc(value, unicode.IsControl) {
		return fmt.Errorf("it has a control character")
	}
	return nil
}

func checkNumber(value string) error {
	if strings.Trim(value, "0123456789") != "" {
		return fmt.Errorf("it is not a decimal number")
	}
	if _, err := strconv.ParseUint(value, 10, strconv.IntSize); err != nil {
		return fmt.Errorf("it is not a decimal number of %d bits", strconv.IntSize)
	}
	return nil
}

func checkVersion(value string) error {
	major, minor, two := strings.Cut(value, ".")
	if strings.Trim(major+minor, "0123456789") != "" || major == "" || two && minor == "" {
		return fmt.Errorf("it is not one number, or two with a dot between")
	}
	return nil
}

func checkType(value string) error {
	if !slices.Contains(uriTypes, value) {
		return fmt.Errorf("it is none of %s", strings.Join(uriTypes, ", "))
	}
	return nil
}

func checkPath(value string) error {
	if err := checkText(value); err != nil {
		return err
	}
	if !filepath.IsAbs(value) || filepath.Clean(value) != value {
		return fmt.Errorf("it is not an absolute path without '.', '..' and doubled slashes")
	}
	return nil
}

// namesToken reports whether the URI says which token is meant.
func (u URI) namesToken() bool {
	return u.Token != "" || u.Serial != "" || u.Manufacturer != "" || u.Model != "" || u.SlotID != ""
}

// checkToken refuses what a URI says of a module or slot beyond what is known of a token here.
func (u URI) checkToken() error {
	if u.LibraryManufacturer+u.LibraryDescription+u.LibraryVersion+u.SlotDescription+u.SlotManufacturer+u.ModuleName != "" {
		return fmt.Errorf("%w: PKCS#11 URI: a token is named by token, serial, manufacturer, model and slot-id, a module by "+
			"module-path: leave out the rest", keystore.ErrInvalid)
	}
	return nil
}

// Matches reports whether a token of the module is one that the URI means. What the URI says of an object is left aside.
func (u URI) Matches(t TokenInfo) bool {
	same := func(want, is string) bool { return want == "" || want == is }
	return u.checkToken() == nil && same(u.Token, t.Label) && same(u.Serial, t.Serial) && same(u.Manufacturer, t.Manufacturer) &&
		same(u.Model, t.Model) && same(u.SlotID, strconv.FormatUint(uint64(t.Slot), 10))
}

// URI names the token as other tools do, without its slot and module, which change.
func (t TokenInfo) URI() URI {
	return URI{Token: t.Label, Manufacturer: t.Manufacturer, Serial: t.Serial, Model: t.Model}
}

// ParseTokenURI reads a URI that names a token, by what is known of one here, and no key.
func ParseTokenURI(s string) (URI, error) {
	u, err := ParseURI(s)
	if err != nil {
		return URI{}, err
	}
	if err := u.checkToken(); err != nil {
		return URI{}, err
	}
	if u.Object+u.ID+u.Type != "" {
		return URI{}, fmt.Errorf("%w: PKCS#11 URI: object, id and type name a key, here a token is to be named", keystore.ErrInvalid)
	}
	if !u.namesToken() {
		return URI{}, fmt.Errorf("%w: PKCS#11 URI: it names no token", keystore.ErrInvalid)
	}
	return u, nil
}

// named fills in what the URI of a configuration says.
func (c *Config) named() error {
	if c.URI == "" {
		return nil
	}
	u, err := ParseTokenURI(c.URI)
	if err != nil {
		return err
	}
	for _, both := range []struct {
		name  string
		value *string
		uri   string
	}{{"Module", &c.Module, u.ModulePath}, {"TokenLabel", &c.TokenLabel, u.Token}, {"Serial", &c.Serial, u.Serial}} {
		if both.uri == "" || *both.value == both.uri {
			continue
		}
		if *both.value != "" {
			return fmt.Errorf("%w: PKCS#11 URI: it names another token or module than %s does", keystore.ErrInvalid, both.name)
		}
		*both.value = both.uri
	}
	c.uri = u
	return nil
}

// pick returns the one initialised token that is meant.
func (c *Config) pick(tokens []TokenInfo) (TokenInfo, error) {
	if c.URI == "" {
		return pick(tokens, c.TokenLabel, c.Serial)
	}
	fits := slices.DeleteFunc(slices.Clone(tokens), func(t TokenInfo) bool { return !c.uri.Matches(t) })
	info, err := pick(fits, c.TokenLabel, c.Serial)
	if err != nil {
		return info, fmt.Errorf("%s: %w", c.uri, err)
	}
	c.TokenLabel = info.Label // by which it is recognised after a failure
	return info, nil
}
