package pkcs11

import "github.com/signetd/signet/keystore"

// ServiceMeter returns the meter of the time that signatures take in a worker.
func (t *Token) ServiceMeter() *keystore.Meter { return &t.service }
