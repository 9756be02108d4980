package server

import "time"

// CertificatesConfig says how long revocation lists hold, and when certificates of the service's own are renewed.
type CertificatesConfig struct {
	ListLifetime Duration `json:"listLifetime" doc:"a revocation list holds this long; it is made anew at each revocation, and when half of this has passed; 24h to 8784h"`
	RenewBefore  Duration `json:"renewBefore" doc:"the service renews the certificates of its own time-stamping, closing and sealing keys, with new keys, so long before they lapse; 24h to 8784h"`
}

// defaultCertificates is a week, and three months.
func defaultCertificates() CertificatesConfig {
	return CertificatesConfig{ListLifetime: Duration(7 * 24 * time.Hour), RenewBefore: Duration(90 * 24 * time.Hour)}
}

func (c CertificatesConfig) validate(bad func(key, format string, args ...any) error) error {
	for key, d := range map[string]Duration{"certificates.listLifetime": c.ListLifetime, "certificates.renewBefore": c.RenewBefore} {
		if v := time.Duration(d); v < 24*time.Hour || v > 366*24*time.Hour {
			return bad(key, "%v; use 24h to 8784h", v)
		}
	}
	return nil
}
