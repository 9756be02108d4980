package pkcs11_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11"
)

func TestParseURI(t *testing.T) {
	for _, test := range []struct {
		uri  string
		want pkcs11.URI
		back string // as it is written, if that is another way
	}{
		{"pkcs11:", pkcs11.URI{}, ""},
		{"PKCS11:token=a", pkcs11.URI{Token: "a"}, "pkcs11:token=a"},
		{"pkcs11:token=The%20Software%20PKCS%2311%20Softtoken", pkcs11.URI{Token: "The Software PKCS#11 Softtoken"}, ""},
		{"pkcs11:object=k;token=t", pkcs11.URI{Token: "t", Object: "k"}, "pkcs11:token=t;object=k"},
		{
			"pkcs11:token=Software%20PKCS%2311%20softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;object=my-certificate;" +
				"type=cert;id=%69%95%3E%5C%F4%BD%EC%91;serial=?module-path=/usr/lib/a.so", pkcs11.URI{}, "refused",
		},
		{
			"pkcs11:token=Software%20PKCS%2311%20softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;object=my-certificate;" +
				"type=cert;id=%69%95%3E%5C%F4%BD%EC%91?module-path=/usr/lib/a.so",
			pkcs11.URI{
				Token: "Software PKCS#11 softtoken", Manufacturer: "Snake Oil, Inc.", Model: "1.0", Object: "my-certificate", Type: "cert",
				ID: "\x69\x95\x3e\x5c\xf4\xbd\xec\x91", ModulePath: "/usr/lib/a.so",
			},
			"pkcs11:token=Software%20PKCS%2311%20softtoken;manufacturer=Snake%20Oil%2C%20Inc.;model=1.0;object=my-certificate;" +
				"type=cert;id=%69%95%3E%5C%F4%BD%EC%91?module-path=/usr/lib/a.so",
		},
		{"pkcs11:slot-id=007;library-version=3.12", pkcs11.URI{SlotID: "7", LibraryVersion: "3.12"}, "pkcs11:library-version=3.12;slot-id=7"},
		{"pkcs11:slot-id=000", pkcs11.URI{SlotID: "0"}, "pkcs11:slot-id=0"},
		{"pkcs11:object=a=b&c:[@]", pkcs11.URI{Object: "a=b&c:[@]"}, "pkcs11:object=a%3Db%26c%3A%5B%40%5D"},
		{"pkcs11:object=%c3%a4", pkcs11.URI{Object: "ä"}, "pkcs11:object=%C3%A4"},
		{"pkcs11:?module-name=p11&module-path=/a%3fb", pkcs11.URI{ModuleName: "p11", ModulePath: "/a?b"}, "pkcs11:?module-name=p11&module-path=/a%3Fb"},
	} {
		got, err := pkcs11.ParseURI(test.uri)
		if test.back == "refused" {
			if err == nil {
				t.Errorf("%s is accepted", test.uri)
			}
			continue
		}
		if test.back == "" {
			test.back = test.uri
		}
		if err != nil || got != test.want || got.String() != test.back {
			t.Errorf("%s: got %+v, written %s, %v", test.uri, got, got, err)
		}
		if err := got.Validate(); err != nil {
			t.Errorf("%s: %v", test.uri, err)
		}
	}
}

func TestParseURIRefuses(t *testing.T) {
	const secret = "hunter2"
	for uri, says := range map[string]string{
		"":                                           "begin with pkcs11:",
		"pkcs1:":                                     "begin with pkcs11:",
		"https://example.com":                        "begin with pkcs11:",
		"pkcs11:token":                               "attribute 1 of the path has no value",
		"pkcs11:token=":                              "empty",
		"pkcs11:id=":                                 "empty",
		"pkcs11:token=a;":                            "attribute 2 of the path has no value",
		"pkcs11:;token=a":                            "attribute 1 of the path has no value",
		"pkcs11:token=a;token=a":                     "a second token",
		"pkcs11:token=a?":                            "attribute 1 of the query has no value",
		"pkcs11:token=a b":                           "percent-encoded",
		"pkcs11:token=a/b":                           "percent-encoded",
		"pkcs11:token=a#b":                           "percent-encoded",
		"pkcs11:token=ä":                             "percent-encoded",
		"pkcs11:token=%":                             "two hex digits",
		"pkcs11:token=%4":                            "two hex digits",
		"pkcs11:token=%4g":                           "two hex digits",
		"pkcs11:token=%ff":                           "UTF-8",
		"pkcs11:token=a%00":                          "control character",
		"pkcs11:token=a%0a":                          "control character",
		"pkcs11:type=key":                            "none of",
		"pkcs11:slot-id=x":                           "decimal",
		"pkcs11:slot-id=-1":                          "decimal",
		"pkcs11:slot-id=18446744073709551616":        "decimal number of",
		"pkcs11:library-version=1.":                  "one number",
		"pkcs11:library-version=.1":                  "one number",
		"pkcs11:library-version=1.2.3":               "one number",
		"pkcs11:Token=a":                             "none that RFC 7512",
		"pkcs11:x-vendor=a":                          "none that RFC 7512",
		"pkcs11:module-path=%2Fa":                    "none that RFC 7512",
		"pkcs11:?token=a":                            "none that RFC 7512",
		"pkcs11:?module-path=a.so":                   "absolute",
		"pkcs11:?module-path=/a/../b.so":             "absolute",
		"pkcs11:?module-path=/a&module-path=/a":      "a second module-path",
		"pkcs11:?pin-value=" + secret:                "set the source of the PIN",
		"pkcs11:?pin-source=file:" + secret:          "set the source of the PIN",
		"pkcs11:pin-value=" + secret:                 "set the source of the PIN",
		"pkcs11:token=a?pin-value:" + secret:         "no value",
		"pkcs11:token=a?PIN-VALUE=" + secret:         "none that RFC 7512",
		"pkcs11:token=a?pin-value%3D" + secret:       "no value",
		"pkcs11:token=a?" + secret + "=pin":          "none that RFC 7512",
		"pkcs11:token=" + secret + "%zz":             "two hex digits",
		"pkcs11:type=" + secret:                      "none of",
		"pkcs11:slot-id=" + secret:                   "decimal",
		"pkcs11:token=" + strings.Repeat("a", 1<<13): "longer than",
	} {
		u, err := pkcs11.ParseURI(uri)
		if !errors.Is(err, keystore.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %+v, %v; want %q", uri, u, err, says)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the error repeats what may be a PIN: %v", err)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	for _, s := range []string{
		"pkcs11:", "pkcs11:token=a;serial=1;object=b;id=%00%ff;type=private", "pkcs11:slot-id=00?module-path=/a/b",
		"pkcs11:library-version=1.2;manufacturer=a%20b?module-name=x", "PKCS11:model=%C3%a4&=:",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := pkcs11.ParseURI(s)
		if err != nil {
			if u != (pkcs11.URI{}) {
				t.Errorf("%q: refused, and yet %+v", s, u)
			}
			return
		}
		written := u.String()
		if len(written) > 4096 { // escaping made it longer
			return
		}
		if err := u.Validate(); err != nil {
			t.Errorf("%q: accepted, and yet %v", s, err)
		}
		again, err := pkcs11.ParseURI(written)
		if err != nil || again != u || again.String() != written {
			t.Errorf("%q: written as %q, read as %+v, %v", s, written, again, err)
		}
	})
}

// FuzzURI writes any values: what is valid is read again as it was.
func FuzzURI(f *testing.F) {
	f.Add("a", "b c", "\x00\xff", "1", "/a;b", "1.2")
	f.Fuzz(func(t *testing.T, token, object, id, slot, path, version string) {
		u := pkcs11.URI{Token: token, Object: object, ID: id, SlotID: slot, ModulePath: path, LibraryVersion: version}
		if u.Validate() != nil {
			return
		}
		got, err := pkcs11.ParseURI(u.String())
		if slot != "" {
			if u.SlotID = strings.TrimLeft(slot, "0"); u.SlotID == "" {
				u.SlotID = "0"
			}
		}
		if err != nil || got != u {
			t.Errorf("%+v is read as %+v, %v", u, got, err)
		}
	})
}

func TestOpenByURI(t *testing.T) {
	c := keystoretest.Config(t)
	keystoretest.Config(t) // another token
	byName := keystoretest.Open(t, c)
	info := byName.Info()
	if err := byName.Close(); err != nil {
		t.Fatal(err)
	}
	open := func(uri string, change func(*pkcs11.Config)) (*pkcs11.Token, error) {
		named := c
		named.TokenLabel, named.Serial, named.URI = "", "", uri
		if change != nil {
			change(&named)
		}
		return pkcs11.Open(t.Context(), named)
	}
	whole := info.URI()
	withModule := whole
	withModule.ModulePath = c.Module
	for _, test := range []struct {
		uri    string
		change func(*pkcs11.Config)
	}{
		{whole.String(), nil},
		{pkcs11.URI{Serial: info.Serial}.String(), nil},
		{pkcs11.URI{Token: info.Label, Model: info.Model}.String(), nil},
		{withModule.String(), nil},
		{withModule.String(), func(c *pkcs11.Config) { c.Module = "" }},
		{whole.String(), func(c *pkcs11.Config) { c.TokenLabel = info.Label }},
	} {
		token, err := open(test.uri, test.change)
		if err != nil {
			t.Errorf("%s: %v", test.uri, err)
			continue
		}
		if got := token.Info(); got.Serial != info.Serial {
			t.Errorf("%s opens %+v", test.uri, got)
		}
		if err := token.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, test := range []struct {
		uri    string
		change func(*pkcs11.Config)
		want   error
	}{
		{"token=x", nil, keystore.ErrInvalid},
		{"pkcs11:", nil, keystore.ErrInvalid},
		{"pkcs11:?module-path=" + c.Module, nil, keystore.ErrInvalid},
		{"pkcs11:token=" + info.Label + ";object=k", nil, keystore.ErrInvalid},
		{"pkcs11:token=" + info.Label + ";slot-description=x", nil, keystore.ErrInvalid},
		{"pkcs11:token=" + info.Label + "?module-name=softhsm2", nil, keystore.ErrInvalid},
		{"pkcs11:token=" + info.Label + "?module-path=/other.so", nil, keystore.ErrInvalid},
		{"pkcs11:token=" + info.Label, func(c *pkcs11.Config) { c.TokenLabel = "other" }, keystore.ErrInvalid},
		{"pkcs11:token=" + info.Label + ";model=other", nil, keystore.ErrUnavailable},
		{"pkcs11:token=nobody", nil, keystore.ErrUnavailable},
		{pkcs11.URI{Model: info.Model}.String(), nil, keystore.ErrInvalid}, // two tokens
	} {
		if token, err := open(test.uri, test.change); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, %v; want %v", test.uri, token, err, test.want)
		}
	}
}
