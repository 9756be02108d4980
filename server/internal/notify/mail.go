package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"
)

// Mail is how messages are handed to a mail server (RFC 5321).
type Mail struct {
	Server     string                 // host:port
	TLS        string                 // TLSStart, TLSImplicit, or TLSNone on the loopback
	Roots      *x509.CertPool         // nil: the system's
	User       string                 // empty: no authentication
	Password   func() ([]byte, error) // read anew for each connection
	From       string
	Security   []string // addresses of the security unit
	Management []string // addresses of those above it
	Timeout    time.Duration
}

// How the connection to a mail server is protected.
const (
	TLSStart    = "starttls" // STARTTLS, and nothing is said without it (RFC 3207)
	TLSImplicit = "tls"      // TLS from the first byte on (RFC 8314)
	TLSNone     = "none"     // a relay on the same machine
)

// mailer is the channel of mail.
type mailer struct {
	Mail
	host string
	port int
	text texts
}

// maxDetailed is how many alerts a message tells in full.
const maxDetailed = 50

// Check says what keeps the mail server from being used.
func (m Mail) Check() error {
	if _, _, err := m.split(); err != nil {
		return err
	}
	if !slices.Contains([]string{TLSStart, TLSImplicit, TLSNone}, m.TLS) {
		return fmt.Errorf("mail: tls %q: use starttls, tls, or none for a relay on the same machine", m.TLS)
	}
	if host, _, _ := m.split(); m.TLS == TLSNone && !Loopback(host) {
		return fmt.Errorf("mail: tls %q: use starttls or tls; without it, mail goes to the same machine alone", m.TLS)
	}
	if m.User != "" && (m.Password == nil || m.TLS == TLSNone) {
		return errors.New("mail: a user needs a password and TLS")
	}
	for _, a := range slices.Concat([]string{m.From}, m.Security, m.Management) {
		if err := CheckAddress(a); err != nil {
			return fmt.Errorf("mail: %q: %w", a, err)
		}
	}
	return nil
}

func (m Mail) split() (host string, port int, err error) {
	host, service, err := net.SplitHostPort(m.Server)
	n, wrong := strconv.ParseUint(service, 10, 16)
	if err != nil || wrong != nil || n == 0 || host == "" {
		return "", 0, fmt.Errorf("mail: server %q: use host:port", m.Server)
	}
	return host, int(n), nil
}

func newMailer(m Mail, t texts) (*mailer, error) {
	if err := m.Check(); err != nil {
		return nil, err
	}
	host, port, err := m.split()
	if err != nil {
		return nil, err
	}
	if m.Timeout <= 0 {
		m.Timeout = 15 * time.Second
	}
	return &mailer{Mail: m, host: host, port: port, text: t}, nil
}

// Loopback reports whether a host is this machine itself.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (m *mailer) name() string { return "mail" }
func (m *mailer) most() int    { return maxBatch }

func (m *mailer) serves(a Audience) bool { return a == Signer || len(m.addresses(a)) > 0 }

func (m *mailer) addresses(a Audience) []string {
	switch a {
	case Security:
		return m.Security
	case Management:
		return m.Management
	}
	return nil
}

// client makes a connection's options: the password is read anew.
func (m *mailer) client() (*mail.Client, error) {
	o := []mail.Option{
		mail.WithPort(m.port), mail.WithTimeout(m.Timeout),
		mail.WithTLSConfig(&tls.Config{ServerName: m.host, RootCAs: m.Roots, MinVersion: tls.VersionTLS12}),
	}
	switch m.TLS {
	case TLSStart:
		o = append(o, mail.WithTLSPolicy(mail.TLSMandatory))
	case TLSImplicit:
		o = append(o, mail.WithSSL())
	case TLSNone:
		o = append(o, mail.WithTLSPolicy(mail.NoTLS))
	}
	if m.User != "" {
		password, err := m.Password()
		if err != nil {
			return nil, fmt.Errorf("the password cannot be read: %w", err)
		}
		o = append(o, mail.WithUsername(m.User), mail.WithPassword(strings.TrimRight(string(password), "\r\n")), mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover))
	}
	return mail.NewClient(m.host, o...)
}

// send hands the messages over on one connection. Each recipient gets a message of their own: one wrong address keeps nothing from the others.
func (m *mailer) send(ctx context.Context, messages []message) (results []result) {
	ctx, cancel := context.WithTimeout(ctx, m.Timeout)
	defer cancel()
	client, err := m.client()
	if err != nil {
		return []result{{down: true, outcome: clip("not tried: "+err.Error(), maxOutcome)}}
	}
	smtp, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return []result{{down: true, outcome: clip(m.Server+": "+connectError(err), maxOutcome)}}
	}
	defer func() { _ = client.CloseWithSMTPClient(smtp) }() // what was accepted is accepted
	for _, msg := range messages {
		to := m.addresses(msg.audience)
		if msg.to != "" {
			to = []string{msg.to}
		}
		accepted, refusal := 0, result{}
		for _, address := range to {
			mm, err := m.compose(msg, address)
			if err != nil {
				refusal = result{permanent: true, outcome: "the address cannot be one"}
				continue
			}
			if err = client.SendWithSMTPClient(smtp, mm); err == nil {
				accepted++
				continue
			}
			if refusal = refused(err); refusal.down || refusal.broke {
				break
			}
		}
		switch {
		case accepted == len(to):
			refusal = result{delivered: true, outcome: "accepted by " + m.Server}
		case accepted > 0:
			refusal = result{
				delivered: true, broke: refusal.broke, outcome: fmt.Sprintf("accepted by %s for %d of %d addresses; %s", m.Server, accepted, len(to), refusal.outcome),
			}
		}
		refusal.outcome = clip(refusal.outcome, maxOutcome)
		if results = append(results, refusal); refusal.down || refusal.broke {
			break
		}
	}
	return results
}

// connectError tells why there is no connection, without what the server has said in words.
func connectError(err error) string {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var op *net.OpError
	var dns *net.DNSError
	switch text := err.Error(); {
	case errors.As(err, &unknown), errors.As(err, &name):
		return "its certificate is not trusted"
	case errors.As(err, &dns):
		return "no such host"
	case errors.As(err, &op) && op.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &op):
		return "no connection: " + op.Err.Error()
	case strings.Contains(text, "AUTH") || strings.Contains(text, "535"):
		return "it refused the user and password"
	case strings.Contains(text, "STARTTLS") || strings.Contains(text, "TLS"):
		return "it offers no TLS"
	}
	return "no connection could be set up"
}

// refused tells what a mail server has refused. Its words may hold an address, its numbers do not (RFC 5321, RFC 3463).
func refused(err error) result {
	var e *mail.SendError
	if !errors.As(err, &e) {
		return result{broke: true, outcome: "the connection broke"}
	}
	switch e.Reason {
	case mail.ErrGetSender, mail.ErrGetRcpts, mail.ErrNoUnencoded:
		return result{permanent: true, outcome: "the mail server takes no such address"}
	}
	code := e.ErrorCode()
	if code < 400 || code > 599 {
		return result{broke: true, outcome: "the connection broke"}
	}
	r := result{outcome: "the mail server refused it: " + strings.TrimSpace(fmt.Sprintf("%d %s", code, e.EnhancedStatusCode()))}
	switch {
	case e.Reason == mail.ErrSMTPMailFrom: // the sender is the same for all
		r.down = true
	case code == 421: // it closes
		r.broke = true
	case e.Reason == mail.ErrSMTPRcptTo: // nobody has the address, or not now
		r.permanent = code >= 500
	}
	return r
}

func (m *mailer) compose(msg message, to string) (*mail.Msg, error) {
	mm := mail.NewMsg()
	if err := errors.Join(mm.From(m.From), mm.To(to)); err != nil {
		return nil, err
	}
	subject, body := m.text.mail(msg)
	mm.Subject(subject)
	_, domain, _ := strings.Cut(m.From, "@")
	mm.SetMessageIDWithValue(msg.id + "@" + domain)
	mm.SetDateWithValue(msg.time)
	mm.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no answering machine answers
	mm.SetGenHeader("Precedence", "bulk")
	if msg.audience != Signer {
		mm.SetImportance(mail.ImportanceHigh)
	}
	mm.SetBodyString(mail.TypeTextPlain, body)
	return mm, nil
}
