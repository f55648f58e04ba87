// Command awskms shows Rowseal on Postgres with AWS KMS: what AWS is asked, what it logs, and what the rows keep of it.
//
//	DATABASE_URL=postgres://user:password@localhost/app go run ./examples/awskms
//	DATABASE_URL=… KMS_KEY_ID=alias/app AWS_REGION=eu-central-1 go run ./examples/awskms
//
// DATABASE_URL is required. Everything happens in a schema of its own, which is dropped at the end. KMS_KEY_ID names a symmetric
// KMS key by id, ARN or alias; region and credentials come from the AWS SDK's default chain. Without KMS_KEY_ID, or with -fake, a
// fake AWS KMS in this process answers. KMS_NEXT_KEY_ID names a second key to rotate to. Against AWS the program makes about 205
// calls.
package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/awskms"
	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
)

type Patient struct {
	ID    uint64
	Name  string `gorm:"serializer:rowseal"`
	Email string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

const rows = 100

// errUsage is a mistake of whoever started the program.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "awskms:", strings.TrimPrefix(err.Error(), "usage: "))
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "awskms:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, getenv func(string) string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("awskms", flag.ContinueOnError)
	fake := flags.Bool("fake", false, "use a fake AWS KMS even where KMS_KEY_ID is set")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if getenv("DATABASE_URL") == "" {
		return fmt.Errorf("%w: DATABASE_URL is not set; set it to a Postgres database, for instance postgres://user:password@localhost:5432/app", errUsage)
	}
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }

	service, err := connect(ctx, getenv, *fake || getenv("KMS_KEY_ID") == "")
	if err != nil {
		return err
	}
	defer service.close()
	say("Rowseal on Postgres with %s\n", service.title)

	database, err := openDatabase(ctx, getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, database.close()) }()

	first, err := service.keyring(1)
	if err != nil {
		return err
	}
	db, err := database.open(first)
	if err != nil {
		return err
	}
	if err := db.AutoMigrate(&Patient{}); err != nil {
		return err
	}
	report := func() {
		say("   KMS calls   %s", service.calls.take())
		say("   statements  %s\n", database.spy.take())
	}
	database.spy.take()

	say("1. Create %d rows in one call: db.Create(&patients)", rows)
	patients := make([]Patient, rows)
	for i := range patients {
		patients[i] = Patient{Name: fmt.Sprintf("Patient %d", i+1), Email: fmt.Sprintf("p%d@example.org", i+1)}
	}
	if err := db.WithContext(ctx).Create(&patients).Error; err != nil {
		return err
	}
	_, inFlight := service.calls.last()
	say("   in flight   at most %d at a time (rowseal.Config.MaxCalls), all before the transaction begins", inFlight)
	report()

	say("2. Load them: db.Find(&all)")
	var all []Patient
	if err := db.WithContext(ctx).Order("id").Find(&all).Error; err != nil {
		return err
	}
	if len(all) != rows || all[0].Name != "Patient 1" {
		return fmt.Errorf("read %d rows, the first of %q", len(all), all[0].Name)
	}
	say("   read        %d rows, the first is %q", len(all), all[0].Name)
	report()

	say("3. What CloudTrail logs of each call, in the clear: the encryption context, and never a value")
	if err := db.WithContext(ctx).First(&Patient{}, all[0].ID).Error; err != nil {
		return err
	}
	seen, _ := service.calls.last()
	logged, err := json.Marshal(seen)
	if err != nil {
		return err
	}
	say("   %s\n", logged)

	say("4. What a row keeps: the ARN that AWS answered with, whatever name is configured")
	say("   configured  %s", service.names[1])
	say("   envelope    %s...", all[0].EncryptedKMSKey.Envelope()[:40])
	say("   key in it   %s\n", arn(all[0].EncryptedKMSKey.Envelope()))
	service.calls.take()

	say("5. Rotate one row to version 2, %s: rowseal.Rotate(ctx, db, &row)", service.next)
	second, err := service.keyring(2)
	if err != nil {
		return err
	}
	rotated, err := database.open(second)
	if err != nil {
		return err
	}
	row := Patient{ID: all[0].ID}
	if err := rowseal.Rotate(ctx, rotated, &row); err != nil {
		return err
	}
	calls := service.calls.take() // ReEncrypt: the data key stays inside AWS
	statements := database.spy.take()
	if err := rotated.WithContext(ctx).First(&row).Error; err != nil {
		return err
	}
	say("   KMS calls   %s: AWS moves the key, this process never sees it", calls)
	say("   statements  %s", statements)
	say("   envelope    %s... -> %s...", all[0].EncryptedKMSKey.Envelope()[:3], row.EncryptedKMSKey.Envelope()[:3])
	say("   key in it   %s", arn(row.EncryptedKMSKey.Envelope()))
	say("   read again  %q\n", row.Name)

	if service.writer == nil {
		say("6. A missing permission is shown with the fake alone: run with -fake")
		return nil
	}
	say("6. A principal with kms:Encrypt and nothing else")
	writerKeys, err := service.writer()
	if err != nil {
		return err
	}
	writer, err := database.open(writerKeys)
	if err != nil {
		return err
	}
	blind := Patient{Name: "Written blind", Email: "blind@example.org"}
	if err := writer.WithContext(ctx).Create(&blind).Error; err != nil {
		return err
	}
	say("   create      row %d is stored", blind.ID)
	err = writer.WithContext(ctx).First(&Patient{}, blind.ID).Error
	if !errors.Is(err, kmskey.ErrDenied) {
		return fmt.Errorf("reading without kms:Decrypt: got %v, want an error that is kmskey.ErrDenied", err)
	}
	say("   read        errors.Is(err, kmskey.ErrDenied):")
	say("               %v", err)
	return nil
}

// service is AWS KMS or its fake, with one or two keys.
type service struct {
	title  string
	names  map[int]string // KMS keys by version
	next   string         // what version 2 is, for people
	client awskms.API
	calls  *counter
	writer func() (*kmskey.Keyring, error) // nil where there is no second principal
	close  func()
}

func connect(ctx context.Context, getenv func(string) string, fake bool) (*service, error) {
	if fake {
		return connectFake()
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		return nil, fmt.Errorf("%w: KMS_KEY_ID is set and no region is; set AWS_REGION, or run with -fake", errUsage)
	}
	client := kms.NewFromConfig(cfg)
	s := &service{
		title: "AWS KMS in region " + cfg.Region + ", key " + getenv("KMS_KEY_ID"),
		names: map[int]string{1: getenv("KMS_KEY_ID"), 2: getenv("KMS_NEXT_KEY_ID")},
		next:  "the key of KMS_NEXT_KEY_ID",
		calls: &counter{API: client},
		close: func() {},
	}
	if s.names[2] == "" {
		s.names[2], s.next = s.names[1], "here the same key (KMS_NEXT_KEY_ID names another)"
	}
	s.client = s.calls
	return s, nil
}

func connectFake() (*service, error) {
	server, err := awskmstest.NewServer(awskmstest.Config{})
	if err != nil {
		return nil, err
	}
	names := map[int]string{1: "alias/app", 2: server.CreateKey()}
	if err := server.CreateAlias(names[1], server.CreateKey()); err != nil {
		server.Close()
		return nil, err
	}
	s := &service{
		title: "a FAKE AWS KMS in this process: nothing is asked of AWS (set KMS_KEY_ID for the real one)",
		names: names,
		next:  "a second key",
		calls: &counter{API: server.Client()},
		close: server.Close,
	}
	s.client = s.calls
	s.writer = func() (*kmskey.Keyring, error) {
		return keyring(server.NewPrincipal("writer", "kms:Encrypt").Client(), s.names, 1)
	}
	return s, nil
}

func (s *service) keyring(current int) (*kmskey.Keyring, error) {
	return keyring(s.client, s.names, current)
}

// keyring lists as many versions as are in use, with one provider each.
func keyring(client awskms.API, names map[int]string, current int) (*kmskey.Keyring, error) {
	versions := map[int]kmskey.Version{}
	for version := 1; version <= current; version++ {
		provider, err := awskms.New(client, names[version], awskms.Config{})
		if err != nil {
			return nil, err
		}
		versions[version] = kmskey.Version{Provider: provider}
	}
	return kmskey.New(kmskey.Config{Current: current, Versions: versions, Namespace: "clinic/example"})
}

// counter stands between Rowseal and the client and counts what is asked.
type counter struct {
	awskms.API

	mu        sync.Mutex
	encrypt   int
	decrypt   int
	reencrypt int
	inFlight  int
	most      int
	context   map[string]string
}

func (c *counter) begin(n *int, context map[string]string) (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*n++
	c.inFlight++
	c.most = max(c.most, c.inFlight)
	c.context = context
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.inFlight--
	}
}

func (c *counter) Encrypt(ctx context.Context, in *kms.EncryptInput, o ...func(*kms.Options)) (*kms.EncryptOutput, error) {
	defer c.begin(&c.encrypt, in.EncryptionContext)()
	return c.API.Encrypt(ctx, in, o...)
}

func (c *counter) Decrypt(ctx context.Context, in *kms.DecryptInput, o ...func(*kms.Options)) (*kms.DecryptOutput, error) {
	defer c.begin(&c.decrypt, in.EncryptionContext)()
	return c.API.Decrypt(ctx, in, o...)
}

func (c *counter) ReEncrypt(ctx context.Context, in *kms.ReEncryptInput, o ...func(*kms.Options)) (*kms.ReEncryptOutput, error) {
	defer c.begin(&c.reencrypt, in.DestinationEncryptionContext)()
	return c.API.ReEncrypt(ctx, in, o...)
}

// last is the context of the latest call, and the most calls that were in flight at once.
func (c *counter) last() (map[string]string, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.context, c.most
}

// take gives the counts and begins anew.
func (c *counter) take() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := list([]string{"Encrypt", "Decrypt", "ReEncrypt"}, []int{c.encrypt, c.decrypt, c.reencrypt})
	c.encrypt, c.decrypt, c.reencrypt, c.most = 0, 0, 0, 0
	return s
}

func list(names []string, counts []int) string {
	var parts []string
	for i, n := range counts {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, names[i]))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// database is a schema of its own in the user's database.
type database struct {
	config *pgx.ConnConfig
	schema string
	spy    *statements
	opened []*gorm.DB
}

func openDatabase(ctx context.Context, url string) (*database, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("%w: DATABASE_URL: %w", errUsage, err) // pgx leaves the password out
	}
	d := &database{config: cfg, schema: "rowseal_example_" + randomHex(), spy: &statements{}}
	if err := d.exec(ctx, "CREATE SCHEMA "+d.schema); err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	cfg.RuntimeParams["search_path"] = d.schema
	cfg.Tracer = d.spy
	return d, nil
}

func (d *database) exec(ctx context.Context, sql string) error {
	conn, err := pgx.ConnectConfig(ctx, d.config)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}

// open makes one *gorm.DB with a plugin of its own.
func (d *database) open(keys *kmskey.Keyring) (*gorm.DB, error) {
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: stdlib.OpenDB(*d.config)}), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, err
	}
	d.opened = append(d.opened, db)
	plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{&Patient{}}})
	if err != nil {
		return nil, err
	}
	return db, db.Use(plugin)
}

func (d *database) close() (err error) {
	for _, db := range d.opened {
		pool, poolErr := db.DB()
		if poolErr == nil {
			poolErr = pool.Close()
		}
		err = errors.Join(err, poolErr)
	}
	// Also after an interrupt: the schema is ours and must not stay.
	return errors.Join(err, d.exec(context.Background(), "DROP SCHEMA "+d.schema+" CASCADE"))
}

// statements counts what reaches Postgres, by its first word.
type statements struct {
	mu    sync.Mutex
	order []string
	count map[string]int
}

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	words := strings.Fields(data.SQL)
	if len(words) == 0 {
		return ctx // the pool's ping
	}
	verb := strings.ToUpper(strings.Trim(words[0], ";"))
	if s.count == nil {
		s.count = map[string]int{}
	}
	if s.count[verb] == 0 {
		s.order = append(s.order, verb)
	}
	s.count[verb]++
	return ctx
}

func (s *statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// take gives the counts and begins anew.
func (s *statements) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var counts []int
	for _, verb := range s.order {
		counts = append(counts, s.count[verb])
	}
	text := list(s.order, counts)
	s.order, s.count = nil, nil
	return text
}

var keyARN = regexp.MustCompile(`arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[a-z0-9-]+`)

// arn finds the key reference in an envelope: docs/format.md, section 4. It is not secret, and neither is the rest.
func arn(envelope string) string {
	_, body, _ := strings.Cut(envelope, ":")
	raw, err := base64.RawStdEncoding.DecodeString(body)
	if err != nil {
		return err.Error()
	}
	return string(keyARN.Find(raw))
}

func randomHex() string {
	b := make([]byte, 4)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
