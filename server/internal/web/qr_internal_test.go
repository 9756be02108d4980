package web

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pquerna/otp"
)

// The drawing is the code, module by module: it is read back and held against one that the encoder draws with modules of four pixels.
func TestQRCode(t *testing.T) {
	const uri = "otpauth://totp/Example%20Medical%20Signet:ada?algorithm=SHA1&digits=6&issuer=Example%20Medical%20Signet&period=30&secret=TTJAWBVM6TNAVD7JU2BP6PTX3AEC6T4Q"
	q, err := encodeQR(uri)
	if err != nil {
		t.Fatal(err)
	}
	drawn := map[[2]int]bool{}
	for _, run := range strings.Split(q.Path, "M")[1:] {
		var x, y, width, back int
		if n, err := fmt.Sscanf(run, "%d %dh%dv1h-%dz", &x, &y, &width, &back); n != 4 || err != nil || width != back {
			t.Fatalf("%q: %v", run, err)
		}
		for i := range width {
			drawn[[2]int{x + i, y}] = true
		}
	}
	key, err := otp.NewKeyFromURL(uri)
	if err != nil {
		t.Fatal(err)
	}
	side := q.Side - 2*quiet
	img, err := key.Image(4*side, 4*side)
	if err != nil {
		t.Fatal(err)
	}
	dark := 0
	for y := range side {
		for x := range side {
			r, _, _, _ := img.At(4*x+2, 4*y+2).RGBA()
			if want := r < 0x8000; want != drawn[[2]int{x + quiet, y + quiet}] {
				t.Fatalf("the module %d, %d is drawn wrong", x, y)
			} else if want {
				dark++
			}
		}
	}
	if dark != len(drawn) || dark < side {
		t.Errorf("%d modules are drawn, %d are dark: the quiet zone is not empty", len(drawn), dark)
	}
	if _, err := encodeQR("otpauth://totp/" + strings.Repeat("x", 5000)); err == nil {
		t.Error("what does not fit is drawn")
	}
}

func TestOwnPath(t *testing.T) {
	for path, want := range map[string]bool{
		"/waiting": true, "/records?from=x": true, "": false, "waiting": false, "//evil.example": false, "/\\evil.example": false, "https://evil.example": false,
		"/a\nb": false, "/a#b": false, "javascript:alert(1)": false, "/" + strings.Repeat("x", maxPath): false,
	} {
		if got := ownPath(path); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
}

func TestParseAssertion(t *testing.T) {
	const good = `{"id":"AQ","rawId":"AQ","type":"public-key","clientExtensionResults":{},"response":{"authenticatorData":"AQ","clientDataJSON":"AQ","signature":"AQ"}}`
	if _, err := parseAssertion(good); err != nil {
		t.Error(err)
	}
	for name, text := range map[string]string{
		"nothing": "", "no object": "1", "another type": strings.Replace(good, "public-key", "password", 1), "no signature": strings.Replace(good, `"signature":"AQ"`, `"signature":""`, 1),
		"padding": strings.Replace(good, `"rawId":"AQ"`, `"rawId":"AQ=="`, 1), "a member twice": strings.Replace(good, `"id":"AQ"`, `"rawId":"AQ"`, 1), "more behind it": good + "{}",
	} {
		if _, err := parseAssertion(text); err == nil {
			t.Errorf("%s is read", name)
		}
	}
}
