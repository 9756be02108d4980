package server

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"

	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/internal/identity"
)

// methods are the full names of every method that the server answers.
func methods() []string {
	g := grpc.NewServer()
	signetv1.RegisterSigningServiceServer(g, signingService{})
	signetv1.RegisterRecordServiceServer(g, recordService{})
	signetv1.RegisterSignerServiceServer(g, signerService{})
	signetv1.RegisterSessionServiceServer(g, sessionService{})
	signetv1.RegisterKeyServiceServer(g, keyService{})
	signetv1.RegisterLedgerServiceServer(g, ledgerService{})
	signetv1.RegisterTimestampServiceServer(g, timestampService{})
	signetv1.RegisterProposalServiceServer(g, proposalService{})
	signetv1.RegisterCredentialServiceServer(g, credentialService{})
	signetv1.RegisterRightsServiceServer(g, rightsService{})
	signetv1.RegisterAlertServiceServer(g, alertService{})
	grpc_health_v1.RegisterHealthServer(g, health.NewServer())
	reflection.Register(g)
	var out []string
	for name, info := range g.GetServiceInfo() {
		for _, m := range info.Methods {
			out = append(out, "/"+name+"/"+m.Name)
		}
	}
	slices.Sort(out)
	return out
}

func TestAccessTableIsComplete(t *testing.T) {
	t.Attr("requirement", "11.10(d)")
	all := methods()
	for _, m := range all {
		rule, ok := accessTable[m]
		if !ok {
			t.Errorf("%s is not in the table: it would be refused to everybody", m)
		}
		if set := rule.public || rule.any; set == (len(rule.roles) > 0) || rule.public && rule.any {
			t.Errorf("%s: say exactly one of public, any, roles", m)
		}
	}
	for m := range accessTable {
		if !slices.Contains(all, m) {
			t.Errorf("%s is in the table, but the server has no such method", m)
		}
	}
}

// TestRightsAreSeparate holds the table against what each right is for.
func TestRightsAreSeparate(t *testing.T) {
	t.Attr("requirement", "11.10(d)")
	for method, want := range map[string][]identity.Role{
		"Sign": {identity.RoleSigner}, "Prepare": {identity.RoleSigner}, "Withdraw": {identity.RoleSigner}, "Seal": {identity.RoleService},
		"CreateRecord": {identity.RoleReleaseManager}, "EnrollSigner": {identity.RoleAdministrator}, "RevokeSigner": {identity.RoleAdministrator},
		"RotateKey": {identity.RoleAdministrator}, "DisableKey": {identity.RoleAdministrator}, "EnableKey": {identity.RoleAdministrator},
		"RequestKeyDestruction": {identity.RoleAdministrator}, "WithdrawKeyDestruction": {identity.RoleAdministrator},
		"ConfirmKeyDestruction": {identity.RoleAdministrator},
		"RenewSigner":           {identity.RoleAdministrator}, "SuspendSigner": {identity.RoleAdministrator}, "ReinstateSigner": {identity.RoleAdministrator},
	} {
		found := false
		for full, rule := range accessTable {
			if strings.HasSuffix(full, "/"+method) {
				found = true
				if !slices.Equal(rule.roles, want) {
					t.Errorf("%s: %v, want %v alone", full, rule.roles, want)
				}
			}
		}
		if !found {
			t.Errorf("no method %s", method)
		}
	}
	for full, rule := range accessTable {
		if rule.public && strings.HasPrefix(full, "/signet.v1.") &&
			full != signetv1.SessionService_OpenSession_FullMethodName && full != signetv1.SignerService_RedeemEnrollment_FullMethodName {
			t.Errorf("%s is open to everybody", full)
		}
	}
}
