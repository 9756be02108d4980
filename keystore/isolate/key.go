package isolate

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/signetd/signet/keystore"
)

// encodeKey returns a key as JSON, or the error.
func encodeKey(key keystore.Key, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public)
	if err != nil {
		return nil, fmt.Errorf("%w: the public key has no standard form: %w", keystore.ErrUnavailable, err)
	}
	key.Public = nil
	return json.Marshal(wireKey{Key: key, Public: public})
}

func decodeKey(b []byte) (keystore.Key, error) {
	var k wireKey
	if err := json.Unmarshal(b, &k); err != nil {
		return keystore.Key{}, fmt.Errorf("%w: %w: a key: %w", keystore.ErrUnavailable, errProtocol, err)
	}
	public, err := x509.ParsePKIXPublicKey(k.Public)
	if err != nil {
		return keystore.Key{}, fmt.Errorf("%w: %w: a public key: %w", keystore.ErrUnavailable, errProtocol, err)
	}
	k.Key.Public = public
	k.Key.KeyID = keystore.KeyID(public)
	return k.Key, nil
}

// refusesPIN reports whether a return value, by its name, says something about a PIN that was tried.
func refusesPIN(name string) bool { return strings.HasPrefix(name, "CKR_PIN_") }
