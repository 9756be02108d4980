package web

import (
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
	"uuid"

	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// decideForm is where a signer says what they decide, what that means, and why.
type decideForm struct {
	recordPage
	Groups   []decisionGroup
	Chosen   string // decision and meaning, as the form gives them
	Reason   string
	Kinds    []string // ways to prove oneself that can be chosen instead of what the policy asks for
	Kind     string
	Requires string // what the policy asks for
}

// decisionGroup is a decision with the meanings that go with it.
type decisionGroup struct {
	Decision string
	Meanings []meaningChoice
}

type meaningChoice struct {
	Value, ID, Text string
	Version         int32
}

// decideForm puts the form together: nothing is chosen in it.
func (v *visit) decideForm() (decideForm, error) {
	record, err := v.readRecord()
	if err != nil {
		return decideForm{}, err
	}
	form := decideForm{recordPage: record, Requires: string(record.Content.Policy.Resolved.Requires)}
	types, err := v.records.ListRecordTypes(v.ctx(), &signetv1.ListRecordTypesRequest{})
	if err != nil {
		return decideForm{}, err
	}
	for _, d := range decisions[:5] { // a withdrawal has a page of its own, and a seal is a service's
		group := decisionGroup{Decision: d.word}
		for _, t := range types.GetRecordTypes() {
			for _, m := range t.GetMeanings() {
				if t.GetId() == record.Record.GetType() && slices.Contains(m.GetDecisions(), d.value) {
					group.Meanings = append(group.Meanings, meaningChoice{Value: d.word + ":" + m.GetId(), ID: m.GetId(), Text: m.GetText(), Version: m.GetVersion()})
				}
			}
		}
		if len(group.Meanings) > 0 {
			form.Groups = append(form.Groups, group)
		}
	}
	form.Kinds, err = v.kinds(record.Content.Policy.Resolved.Requires)
	return form, err
}

// kinds are the ways in which the caller can prove themselves for a policy, beyond what it asks for.
func (v *visit) kinds(requires manifest.AuthorizationKind) ([]string, error) {
	var out []string
	add := func(k manifest.AuthorizationKind) {
		if k != requires && k.Covers(requires) {
			out = append(out, string(k))
		}
	}
	if v.me.GetSigner().GetTotp() {
		add(manifest.AuthorizationPasswordTOTP)
	}
	bound, err := v.boundPasskeys()
	if len(bound) > 0 {
		add(manifest.AuthorizationPasswordPasskey)
	}
	return out, err
}

func (s *site) showDecide(v *visit) error {
	form, err := v.decideForm()
	if err != nil {
		return err
	}
	return v.show("decide", page{Title: "Decide about " + form.Record.GetProduct() + " " + form.Record.GetVersion(), Body: form})
}

func (s *site) decide(v *visit) error {
	chosen, reason, kind := v.value("decision"), v.value("reason"), v.value("requires")
	word, meaning, _ := strings.Cut(chosen, ":")
	in := &signetv1.PrepareRequest{Record: "records/" + v.r.PathValue("event"), Meaning: meaning, Reason: reason, Requires: kind, RequestId: uuid.New().String()}
	for _, d := range decisions[:5] {
		if d.word == word {
			in.Decision = d.value
		}
	}
	again := func(status int, p *problem) error {
		form, err := v.decideForm()
		if err != nil {
			return err
		}
		form.Chosen, form.Reason, form.Kind = chosen, reason, kind
		return v.showAs(status, "decide", page{Title: "Decide about " + form.Record.GetProduct() + " " + form.Record.GetVersion(), Problem: p, Body: form})
	}
	switch {
	case in.GetDecision() == signetv1.Decision_DECISION_UNSPECIFIED || meaning == "":
		return again(http.StatusBadRequest, &problem{Text: texts["DECISION_UNKNOWN"].Text, Field: "decision"})
	case strings.TrimSpace(reason) == "":
		return again(http.StatusBadRequest, &problem{Text: "Say why, in your own words. The reason is signed as you write it.", Field: "reason"})
	}
	answer, err := v.signing.Prepare(v.ctx(), in)
	if err != nil {
		if known(err) == nil {
			return err
		}
		return again(statusOf(err), v.problem(err))
	}
	return v.redirect("/" + answer.GetPreparation().GetName())
}

// withdrawForm is where a signer takes their decision back.
type withdrawForm struct {
	recordPage
	Reason string
}

func (s *site) showWithdraw(v *visit) error { return v.askWithdraw(http.StatusOK, nil, "") }

func (v *visit) askWithdraw(status int, p *problem, reason string) error {
	record, err := v.readRecord()
	if err != nil {
		return err
	}
	return v.showAs(status, "withdraw", page{
		Title: "Withdraw your decision about " + record.Record.GetProduct() + " " + record.Record.GetVersion(), Problem: p, Body: withdrawForm{record, reason},
	})
}

func (s *site) withdraw(v *visit) error {
	reason := v.value("reason")
	if strings.TrimSpace(reason) == "" {
		return v.askWithdraw(http.StatusBadRequest, &problem{Text: "Say why, in your own words. The reason is signed as you write it.", Field: "reason"}, reason)
	}
	answer, err := v.signing.Withdraw(v.ctx(), &signetv1.WithdrawRequest{Record: "records/" + v.r.PathValue("event"), Reason: reason})
	if err != nil {
		if known(err) == nil {
			return err
		}
		return v.askWithdraw(statusOf(err), v.problem(err), reason)
	}
	return v.redirect("/" + answer.GetPreparation().GetName())
}

// statementPage is a statement that waits for its signer, in full.
type statementPage struct {
	Preparation *signetv1.Preparation
	Statement   manifest.Statement
	Rendering   string // derived here, from the bytes
	Digest      string // SHA-256 of the canonical statement
	Challenge   string
	Prepared    string
	Expires     time.Time
	Left        string
	Record      *signetv1.Record
	Inputs      []input
	Verb        string
	Password    bool // asked for
	TOTP        bool
	Passkey     bool
	Options     string // for the browser's credentials.get
	UserName    string
	Over        bool
	Attempted   bool
}

// readPreparation reads the statement that the path names.
func (v *visit) readPreparation() (statementPage, error) {
	answer, err := v.signing.GetPreparation(v.ctx(), &signetv1.GetPreparationRequest{Name: "preparations/" + v.r.PathValue("preparation")})
	if err != nil {
		return statementPage{}, err
	}
	p := answer.GetPreparation()
	st, err := manifest.ParseStatement(p.GetStatement())
	if err != nil {
		return statementPage{}, err
	}
	digest, err := st.Digest()
	if err != nil {
		return statementPage{}, err
	}
	expires := p.GetExpireTime().AsTime()
	kind := strings.Split(p.GetRequires(), "+")
	return statementPage{
		Preparation: p, Statement: st, Rendering: manifest.Render(st), Digest: digest.String(), Challenge: hex.EncodeToString(p.GetChallenge()),
		Prepared: manifest.LocalTime(st.Predicate.PreparedAt, st.Predicate.Zone), Expires: expires, Left: inWords(max(0, expires.Sub(v.Clock()))), Inputs: inputsOf(st),
		Verb: st.Predicate.Decision, Password: slices.Contains(kind, "password"), TOTP: slices.Contains(kind, "totp"), Passkey: slices.Contains(kind, "passkey"),
		Options:   string(p.GetPasskeyOptions()),
		Over:      p.GetState() == signetv1.PreparationState_PREPARATION_STATE_OVER,
		Attempted: p.GetState() == signetv1.PreparationState_PREPARATION_STATE_ATTEMPTED,
	}, nil
}

func (s *site) showPreparation(v *visit) error {
	return v.askSignature(http.StatusOK, nil, "")
}

// askSignature shows the statement, and below it what its signer proves themselves with.
func (v *visit) askSignature(status int, problem *problem, userName string) error {
	body, err := v.readPreparation()
	if err != nil {
		return err
	}
	if body.Preparation.GetState() == signetv1.PreparationState_PREPARATION_STATE_SIGNED {
		path, err := signaturePath(body.Preparation.GetSignature())
		if err != nil {
			return err
		}
		return v.redirect(path)
	}
	record, err := v.records.GetRecord(v.ctx(), &signetv1.GetRecordRequest{Name: body.Preparation.GetRecord()})
	if err != nil {
		return err
	}
	body.Record, body.UserName = record.GetRecord(), userName
	return v.showAs(status, "preparation", page{
		Title: "Read and sign: " + body.Statement.Predicate.Decision + " " + body.Record.GetProduct() + " " + body.Record.GetVersion(), Problem: problem,
		Script: body.Passkey && !body.Over, Body: body,
	})
}

// sign signs the statement that was shown. All components are in this one form; the session counts for nothing.
func (s *site) sign(v *visit) error {
	shown, err := hex.DecodeString(v.r.PostFormValue("statement"))
	if err != nil || len(shown) != 32 {
		return v.askSignature(http.StatusBadRequest, &problem{Text: texts["STATEMENT_DIFFERS"].Text}, "")
	}
	in := &signetv1.SignRequest{Preparation: "preparations/" + v.r.PathValue("preparation"), StatementSha256: shown}
	user, password := v.line("user"), v.r.PostFormValue("password")
	if user != "" || password != "" {
		in.Password = &signetv1.PasswordCredentials{UserName: user, Password: password, Totp: code(v.r.PostFormValue("totp"))}
	}
	if text := v.r.PostFormValue("passkey"); text != "" {
		if in.Passkey, err = parseAssertion(text); err != nil {
			return v.askSignature(http.StatusBadRequest, &problem{Text: "The browser's answer for the passkey could not be read. Nothing was signed; try again."}, user)
		}
	}
	answer, err := v.signing.Sign(v.ctx(), in)
	if err != nil {
		if known(err) == nil {
			return err
		}
		return v.askSignature(statusOf(err), v.problem(err), user)
	}
	path, err := signaturePath(answer.GetSignature().GetName())
	if err != nil {
		return err
	}
	return v.redirect(path + "?done=signed")
}

// statement sends the bytes that are signed.
func (s *site) statement(v *visit) error {
	body, err := v.readPreparation()
	if err != nil {
		return err
	}
	return v.file("statement-"+v.r.PathValue("preparation")+".json", "application/json", body.Preparation.GetStatement())
}
