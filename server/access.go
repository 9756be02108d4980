package server

import (
	"slices"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/signing"
)

// access says who may call a method. A method that is not in the table is refused: deny by default (21 CFR 11.10(d)).
type access struct {
	public bool            // needs no caller: the method authenticates for itself, or tells nothing
	any    bool            // every authenticated caller
	roles  []identity.Role // or one of these
}

// allows reports whether the caller has a right.
func (a access) allows(c identity.Caller) bool {
	return a.any || slices.ContainsFunc(c.Roles, func(r identity.Role) bool { return slices.Contains(a.roles, r) })
}

var (
	open         = access{public: true}
	everybody    = access{any: true}
	signersOnly  = access{roles: []identity.Role{identity.RoleSigner}}
	services     = access{roles: []identity.Role{identity.RoleService}}
	managers     = access{roles: []identity.Role{identity.RoleReleaseManager}}
	admins       = access{roles: []identity.Role{identity.RoleAdministrator}}
	ledgerReader = access{roles: []identity.Role{identity.RoleAuditor, identity.RoleAdministrator}}
	people       = access{roles: []identity.Role{identity.RoleAdministrator, identity.RoleSigner, identity.RoleReleaseManager, identity.RoleAuditor, identity.RoleSecurityOfficer}}
	overseers    = access{roles: []identity.Role{identity.RoleAdministrator, identity.RoleAuditor, identity.RoleSecurityOfficer}}
	security     = access{roles: []identity.Role{identity.RoleSecurityOfficer, identity.RoleAdministrator}}
	alertReader  = access{roles: []identity.Role{identity.RoleSecurityOfficer, identity.RoleAdministrator, identity.RoleAuditor}}
	peopleReader = access{roles: []identity.Role{identity.RoleAuditor, identity.RoleAdministrator, identity.RoleReleaseManager}}
)

// serviceMethods are the methods that services can be allowed to call.
func serviceMethods() []string {
	var out []string
	for method, rule := range accessTable {
		if rule.any || slices.Contains(rule.roles, identity.RoleService) {
			out = append(out, method)
		}
	}
	slices.Sort(out)
	return out
}

// recordTypeIDs are the record types that services can be allowed to seal.
func recordTypeIDs() []string {
	var out []string
	for _, t := range signing.RecordTypes() {
		out = append(out, t.ID)
	}
	return out
}

// accessTable is the right to call, method by method. To view, to prepare, to sign, to administer and to audit are separate
// rights (21 CFR 11.10(g)); no role implies another.
var accessTable = map[string]access{
	signetv1.SigningService_Prepare_FullMethodName:           signersOnly,
	signetv1.SigningService_Sign_FullMethodName:              signersOnly,
	signetv1.SigningService_Withdraw_FullMethodName:          signersOnly,
	signetv1.SigningService_GetPreparation_FullMethodName:    signersOnly,
	signetv1.SigningService_ListOwnSignatures_FullMethodName: people,
	signetv1.SigningService_Seal_FullMethodName:              services,
	signetv1.SigningService_Verify_FullMethodName:            everybody,
	signetv1.SigningService_GetManifest_FullMethodName:       everybody,
	signetv1.SigningService_ListSignatures_FullMethodName:    everybody,

	signetv1.RecordService_CreateRecord_FullMethodName:    managers,
	signetv1.RecordService_GetRecord_FullMethodName:       everybody,
	signetv1.RecordService_ListRecords_FullMethodName:     everybody,
	signetv1.RecordService_ListRecordTypes_FullMethodName: everybody,

	signetv1.SignerService_EnrollSigner_FullMethodName:     admins,
	signetv1.SignerService_RedeemEnrollment_FullMethodName: open, // the one-time code is the proof
	signetv1.SignerService_GetSigner_FullMethodName:        peopleReader,
	signetv1.SignerService_ListSigners_FullMethodName:      peopleReader,
	signetv1.SignerService_SuspendSigner_FullMethodName:    admins,
	signetv1.SignerService_ReinstateSigner_FullMethodName:  admins,
	signetv1.SignerService_RevokeSigner_FullMethodName:     admins,
	signetv1.SignerService_RenewSigner_FullMethodName:      admins,

	signetv1.SignerService_UnlockSigner_FullMethodName:             admins,
	signetv1.SignerService_UnlockNetwork_FullMethodName:            admins,
	signetv1.SignerService_SetContact_FullMethodName:               people, // one's own, or an administrator
	signetv1.SignerService_ChangeService_FullMethodName:            admins,
	signetv1.SignerService_AddServiceCertificate_FullMethodName:    admins,
	signetv1.SignerService_RemoveServiceCertificate_FullMethodName: admins,

	signetv1.ProposalService_GetProposal_FullMethodName:      overseers,
	signetv1.ProposalService_ListProposals_FullMethodName:    overseers,
	signetv1.ProposalService_ConfirmProposal_FullMethodName:  admins, // another one than who proposed it
	signetv1.ProposalService_WithdrawProposal_FullMethodName: admins,

	signetv1.CredentialService_ChangePassword_FullMethodName: people, // all of these are about one's own credentials
	signetv1.CredentialService_StartTotp_FullMethodName:      people,
	signetv1.CredentialService_ConfirmTotp_FullMethodName:    people,
	signetv1.CredentialService_RemoveTotp_FullMethodName:     people, // or an administrator
	signetv1.CredentialService_StartPasskey_FullMethodName:   people,
	signetv1.CredentialService_FinishPasskey_FullMethodName:  people,
	signetv1.CredentialService_VouchPasskey_FullMethodName:   people, // by a passkey of theirs that may
	signetv1.CredentialService_ListPasskeys_FullMethodName:   people, // or of everybody: overseers
	signetv1.CredentialService_RevokePasskey_FullMethodName:  people, // or an administrator

	signetv1.CredentialService_ListCredentials_FullMethodName:   people, // or of everybody: overseers
	signetv1.CredentialService_StartPasskeyTest_FullMethodName:  people,
	signetv1.CredentialService_FinishPasskeyTest_FullMethodName: people,

	signetv1.RightsService_AssignRole_FullMethodName:          admins,
	signetv1.RightsService_WithdrawRole_FullMethodName:        admins,
	signetv1.RightsService_ListRoleAssignments_FullMethodName: overseers,
	signetv1.RightsService_PutGroup_FullMethodName:            admins,
	signetv1.RightsService_GetGroup_FullMethodName:            peopleReader,
	signetv1.RightsService_ListGroups_FullMethodName:          peopleReader,
	signetv1.RightsService_SetDesignation_FullMethodName:      admins,
	signetv1.RightsService_ListDesignations_FullMethodName:    peopleReader,
	signetv1.RightsService_AttestTraining_FullMethodName:      admins,
	signetv1.RightsService_WithdrawTraining_FullMethodName:    admins,
	signetv1.RightsService_ListTraining_FullMethodName:        peopleReader,
	signetv1.RightsService_StartReview_FullMethodName:         admins,
	signetv1.RightsService_GetReviewStatus_FullMethodName:     overseers,

	signetv1.AlertService_GetAlert_FullMethodName:         alertReader,
	signetv1.AlertService_ListAlerts_FullMethodName:       alertReader,
	signetv1.AlertService_AcknowledgeAlert_FullMethodName: security, // nobody an alert about themselves
	signetv1.AlertService_TestAlerts_FullMethodName:       security,
	signetv1.AlertService_ListDeliveries_FullMethodName:   alertReader,

	signetv1.KeyService_GetKey_FullMethodName:    ledgerReader,
	signetv1.KeyService_ListKeys_FullMethodName:  ledgerReader,
	signetv1.KeyService_RotateKey_FullMethodName: admins,

	signetv1.KeyService_ListCertificateAuthorities_FullMethodName: everybody,

	signetv1.KeyService_DisableKey_FullMethodName:             admins,
	signetv1.KeyService_EnableKey_FullMethodName:              admins,
	signetv1.KeyService_RequestKeyDestruction_FullMethodName:  admins,
	signetv1.KeyService_WithdrawKeyDestruction_FullMethodName: admins,
	signetv1.KeyService_ConfirmKeyDestruction_FullMethodName:  admins, // another one than who asked for it

	signetv1.SessionService_OpenSession_FullMethodName:    open, // user name and password are the proof
	signetv1.SessionService_CloseSession_FullMethodName:   everybody,
	signetv1.SessionService_ListSessions_FullMethodName:   people, // one's own; of others: administrators
	signetv1.SessionService_EndSession_FullMethodName:     people, // one's own; of others: administrators
	signetv1.SessionService_WhoAmI_FullMethodName:         everybody,
	signetv1.SessionService_IssueReadToken_FullMethodName: ledgerReader,

	signetv1.LedgerService_GetCheckpoint_FullMethodName:     everybody,
	signetv1.LedgerService_GetEntry_FullMethodName:          ledgerReader,
	signetv1.LedgerService_ListEntries_FullMethodName:       ledgerReader,
	signetv1.LedgerService_ProveInclusion_FullMethodName:    ledgerReader,
	signetv1.LedgerService_ProveConsistency_FullMethodName:  everybody,
	signetv1.LedgerService_ProveCompleteness_FullMethodName: ledgerReader,
	signetv1.LedgerService_Export_FullMethodName:            ledgerReader,
	signetv1.LedgerService_TraceSignature_FullMethodName:    ledgerReader,
	signetv1.LedgerService_GetTimeBracket_FullMethodName:    ledgerReader,
	signetv1.LedgerService_GetSource_FullMethodName:         ledgerReader,
	signetv1.LedgerService_EraseSources_FullMethodName:      admins,
	signetv1.LedgerService_GetLedgerStatus_FullMethodName:   ledgerReader,

	signetv1.TimestampService_Timestamp_FullMethodName: everybody,

	// The standard services tell whether the server serves, and the public contract.
	"/grpc.health.v1.Health/Check":                                   open,
	"/grpc.health.v1.Health/List":                                    open,
	"/grpc.health.v1.Health/Watch":                                   open,
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      open,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": open,
}
