package server

import (
	"encoding/json/v2"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
)

// verdict is a report as the wire has it.
func verdict(r *verify.Report) (*signetv1.VerifyResponse, error) {
	b, err := json.Marshal(r, json.Deterministic(true))
	if err != nil {
		return nil, err
	}
	out := &signetv1.VerifyResponse{Code: int32(r.Code), Verdict: r.Code.String(), Report: b}
	for _, f := range r.Faults {
		out.Faults = append(out.Faults, &signetv1.Fault{Code: int32(f.Code), Message: f.What, Subject: f.Where})
	}
	return out, nil
}
