package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// readCertificate reads one certificate, PEM or DER, and returns its DER.
func readCertificate(path string) ([]byte, error) {
	b, err := readFile(path, maxSmallFile)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(b); block != nil {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s holds a %s, not a certificate", path, block.Type)
		}
		b = block.Bytes
	}
	if _, err := x509.ParseCertificate(b); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}
