// policy_aws.go owns the policies for AWS KMS: what each role is allowed, under which conditions.

package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
)

type policyAWS struct {
	Kind   string   `enum:"identity,key" default:"identity" placeholder:"KIND" help:"identity: attached to the IAM user or role who has the role. key: the key's own policy, with all roles. Defaults to ${default}."`
	Role   string   `placeholder:"ROLE" help:"Of an identity policy: writer, reader, rotator, application or administrator."`
	Key    []string `sep:"none" placeholder:"ARN" help:"The key's ARN; repeat it for the keys of other regions. IAM does not look at aliases."`
	From   []string `sep:"none" placeholder:"ARN" help:"Of a rotator: keys from which rows are moved to --key. Without it they stay under their key, and only context and material change."`
	Alias  []string `sep:"none" placeholder:"alias/NAME" help:"Of an administrator: aliases of --key that it may make, move and delete."`
	Check  bool     `help:"Allow kms:DescribeKey as well, for checks at start-up."`
	Format string   `enum:"json,terraform" default:"json" placeholder:"FORMAT" help:"json or terraform. Defaults to ${default}."`

	FromContext string `placeholder:"NAME=VALUE" help:"Of a rotator: the constant in the context of the rows to be moved, where it differs from --context; or none."`

	Context    contextFlags   `embed:"" group:"Encryption context:"`
	Account    string         `placeholder:"DIGITS" group:"Of a key policy:" help:"The key's account, of twelve digits. Defaults to that of --key."`
	Principals principalFlags `embed:"" group:"Of a key policy:"`
}

// contextFlags are the conditions on the encryption context.
type contextFlags struct {
	Model      []string          `sep:"none" placeholder:"NAME" help:"Models whose rows are meant (model_name). Defaults to all."`
	Context    map[string]string `mapsep:"none" placeholder:"NAME=VALUE" help:"Constants that every context must have, such as environment=production."`
	ContextKey []string          `sep:"none" placeholder:"NAME" help:"Further names that a context may have, such as tenant_id. Names other than these, --context, model_name and model_id are refused."`
	Index      bool              `help:"The models have blind indexes: writers, readers and applications may make and unwrap the keys of these, under a context of their own."`
	Direct     bool              `help:"Refuse calls that another AWS service makes for the principal (kms:ViaService)."`
}

// principalFlags are who has which role in a key policy.
type principalFlags struct {
	Writer        []string `sep:"none" placeholder:"ARN" help:"IAM roles or users who are writers."`
	Reader        []string `sep:"none" placeholder:"ARN" help:"Those who are readers."`
	Rotator       []string `sep:"none" placeholder:"ARN" help:"Those who are rotators."`
	Application   []string `sep:"none" placeholder:"ARN" help:"Those who are writer and reader in one."`
	Administrator []string `sep:"none" placeholder:"ARN" help:"Those who manage the key."`
	BreakGlass    []string `sep:"none" placeholder:"ARN" help:"Who may disable the key and schedule its deletion. Defaults to nobody, until the policy is changed."`
	SameKey       bool     `help:"Hold rotators to this key, as source and destination: they change contexts and move nothing to another key."`
	AccountMay    string   `placeholder:"WHAT" help:"What the account's IAM policies may allow on the key. use: everything. manage: nothing that encrypts or decrypts. nothing: the key is lost to management with its administrators. Defaults to manage where a principal is named who uses the key, else to use."`
}

// document is a policy, in the order in which people read it.
type document struct {
	Version   string
	Statement []statement
}

type statement struct {
	Sid         string
	Effect      string
	Principal   *principals `json:",omitempty"`
	Action      values
	Resource    values     `json:",omitempty"`
	NotResource values     `json:",omitempty"`
	Condition   conditions `json:",omitempty"`
}

type principals struct{ AWS values }

// conditions are values by condition key by operator.
type conditions map[string]map[string]values

// values is a string where it is one.
type values []string

func (v values) MarshalJSON() ([]byte, error) {
	if len(v) == 1 {
		return json.Marshal(v[0])
	}
	return json.Marshal([]string(v))
}

func newDocument(statements ...statement) document { return document{"2012-10-17", statements} }

// What each role does. ReEncrypt is the rotator's alone: a writer who had it could move a wrapped key to another row's context without ever
// seeing it.
var uses = map[string]values{
	writer:      {"kms:Encrypt"},
	reader:      {"kms:Decrypt"},
	application: {"kms:Encrypt", "kms:Decrypt"},
}

// cryptographic is every operation on a symmetric key that takes an encryption context.
var cryptographic = values{"kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"}

// manages is what an administrator does with a key. kms:CreateGrant is not among it: a grant gives what the administrator does not have.
var manages = values{
	"kms:CancelKeyDeletion", "kms:DescribeKey", "kms:DisableKey", "kms:DisableKeyRotation", "kms:EnableKey", "kms:EnableKeyRotation",
	"kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListGrants", "kms:ListKeyPolicies", "kms:ListKeyRotations", "kms:ListResourceTags",
	"kms:PutKeyPolicy", "kms:RevokeGrant", "kms:RotateKeyOnDemand", "kms:ScheduleKeyDeletion", "kms:TagResource", "kms:UntagResource",
	"kms:UpdateKeyDescription",
}

var namesKeys = values{"kms:CreateAlias", "kms:DeleteAlias", "kms:UpdateAlias"}

const (
	contextKeys   = "kms:EncryptionContextKeys"
	contextPrefix = "kms:EncryptionContext:"
)

// names are the names that a context may have.
func (f contextFlags) names(constants map[string]string) values {
	names := slices.Concat([]string{"model_id", "model_name"}, slices.Collect(maps.Keys(constants)), f.ContextKey)
	slices.Sort(names)
	return slices.Compact(names)
}

// finds is what a program needs that searches or writes blind indexes: their keys, and no row's.
var finds = values{"kms:Encrypt", "kms:Decrypt"}

// indexConditions holds requests to the context of index keys: docs/format.md, section 14.
func (f contextFlags) indexConditions() conditions {
	of := f
	of.ContextKey = []string{"index_version", "purpose"}
	c := of.conditions(f.Context)
	c["ForAllValues:StringEquals"][contextKeys] = slices.DeleteFunc(of.names(f.Context), func(name string) bool { return name == "model_id" })
	if c["StringEquals"] == nil {
		c["StringEquals"] = map[string]values{}
	}
	c["StringEquals"][contextPrefix+"purpose"] = values{"rowseal/index"}
	return c
}

// pairs are the pairs that a context must have.
func (f contextFlags) pairs(constants map[string]string) map[string]values {
	pairs := map[string]values{}
	if len(f.Model) > 0 {
		pairs[contextPrefix+"model_name"] = slices.Sorted(slices.Values(f.Model))
	}
	for name, value := range constants {
		pairs[contextPrefix+name] = values{value}
	}
	return pairs
}

// conditions holds requests to the context. ForAllValues is true of no values at all, so it never stands without Null. It is needed beside
// StringEquals too: that compares the names of pairs without their case.
func (f contextFlags) conditions(constants map[string]string) conditions {
	c := conditions{
		"ForAllValues:StringEquals": {contextKeys: f.names(constants)},
		"Null":                      {contextKeys: {"false"}},
	}
	if pairs := f.pairs(constants); len(pairs) > 0 {
		c["StringEquals"] = pairs
	}
	if f.Direct {
		c["Null"]["kms:ViaService"] = values{"true"}
	}
	return c
}

// guards are the same as denials, which bind whoever is allowed by another statement or policy.
func (f contextFlags) guards() []statement {
	deny := func(sid, operator, key string, v values) statement {
		return statement{Sid: sid, Effect: "Deny", Principal: &principals{values{"*"}}, Action: cryptographic, Resource: values{"*"},
			Condition: conditions{operator: {key: v}}}
	}
	of := f
	if f.Index {
		of.ContextKey = slices.Concat(f.ContextKey, []string{"index_version", "purpose"})
	}
	guards := []statement{
		deny("NoUseWithoutContext", "Null", contextKeys, values{"true"}),
		deny("NoUseWithOtherNames", "ForAnyValue:StringNotEquals", contextKeys, of.names(f.Context)),
	}
	// One statement for each: conditions of one statement must all be true. A pair that is missing is not equal either.
	pairs := f.pairs(f.Context)
	for _, key := range slices.Sorted(maps.Keys(pairs)) {
		guards = append(guards, deny("NoUseWithOther"+letters(strings.TrimPrefix(key, contextPrefix)), "StringNotEquals", key, pairs[key]))
	}
	if f.Direct {
		guards = append(guards, deny("NoUseThroughServices", "Null", "kms:ViaService", values{"false"}))
	}
	return guards
}

// letters makes a Sid of a name: IAM takes letters and digits there.
func letters(name string) string {
	var b strings.Builder
	up := true
	for _, r := range name {
		switch {
		case r >= '0' && r <= '9' || r >= 'A' && r <= 'Z', r >= 'a' && r <= 'z' && !up:
			b.WriteRune(r)
			up = false
		case r >= 'a' && r <= 'z':
			b.WriteRune(r - 'a' + 'A')
			up = false
		default:
			up = true
		}
	}
	return b.String()
}

// check refuses what would not be taken for what it says: a value with ${ is a policy variable to IAM.
func (f contextFlags) check() error {
	sids := map[string]string{"Names": "", "ModelName": ""}
	for name, value := range f.Context {
		switch {
		case name == "model_name":
			return usage("--context model_name: give the models with --model")
		case name == "" || value == "" || strings.HasPrefix(name, "aws:"):
			return usage("--context %s=%s: expected a name and a value, and names do not begin with \"aws:\", which AWS reserves", name, value)
		case sids[letters(name)] != "" || letters(name) == "" || letters(name) == "Names":
			return usage("--context %s: the name needs letters or digits that tell it from the others", name)
		}
		sids[letters(name)] = name
	}
	for _, text := range slices.Concat(f.Model, f.ContextKey, slices.Collect(maps.Keys(f.Context)), slices.Collect(maps.Values(f.Context))) {
		if text == "" || strings.Contains(text, "${") {
			return usage("encryption context: %q is empty, or has \"${\", which IAM would take for a variable", text)
		}
	}
	for _, name := range f.ContextKey {
		if strings.ContainsAny(name, "*?") {
			return usage("--context-key %s: the names are compared as they are, without wildcards", name)
		}
	}
	return nil
}

func (p *policyAWS) Run(a *app) error {
	if err := p.Context.check(); err != nil {
		return err
	}
	var d document
	var err error
	if p.Kind == "key" {
		d, err = p.keyPolicy()
	} else {
		d, err = p.identityPolicy()
	}
	if err != nil {
		return err
	}
	if p.Format == "terraform" {
		return p.terraform(a.stdout, d)
	}
	return printJSON(a.stdout, d)
}

// The limits of a managed policy of IAM, and of a key policy.
const (
	maxIdentityPolicy = 6144
	maxKeyPolicy      = 32768
)

// fits refuses what AWS would not take, and gives d as it is sent.
func (d document) fits(most int) (string, error) {
	var b bytes.Buffer
	text, err := marshal(d)
	if err != nil {
		return "", err
	}
	if err := json.Compact(&b, text); err != nil {
		return "", err
	}
	if b.Len() > most {
		return "", usage("the policy has %d characters, and AWS takes %d: name fewer models, keys or principals", b.Len(), most)
	}
	return b.String(), nil
}

func (p *policyAWS) identityPolicy() (document, error) {
	var fail document
	switch {
	case !slices.Contains([]string{writer, reader, rotator, application, administrator}, p.Role):
		return fail, usage("--role %q: expected writer, reader, rotator, application or administrator", p.Role)
	case len(p.Key) == 0:
		return fail, usage("--key is missing: the key's ARN, as aws kms describe-key --key-id … --query KeyMetadata.Arn shows it")
	case p.Account != "" || p.Principals.any():
		return fail, usage("principals, --account and --account-may belong to --kind key: an identity policy is attached to the principal")
	case p.Role != rotator && (len(p.From) > 0 || p.FromContext != ""):
		return fail, usage("--from and --from-context belong to --role rotator")
	case p.Context.Index && (p.Role == rotator || p.Role == administrator):
		return fail, usage("--index belongs to writers, readers and applications: %ss need no keys of indexes", p.Role)
	case p.Role != administrator && len(p.Alias) > 0:
		return fail, usage("--alias belongs to --role administrator; to use a key through an alias, the permission on the key is enough")
	}
	var keys []keyARN
	for _, text := range slices.Concat(p.Key, p.From) {
		k, err := parseKeyARN(text)
		if err != nil {
			return fail, err
		}
		keys = append(keys, k)
	}
	var statements []statement
	switch p.Role {
	case rotator:
		from, err := p.fromContext()
		if err != nil {
			return fail, err
		}
		statements = rotates(p.Context.conditions(from), p.Context.conditions(p.Context.Context), slices.Concat(p.Key, p.From), p.Key, len(p.From) == 0)
		// With ReEncryptFrom here and a key of its own elsewhere, a rotator could read all data keys.
		statements = append(statements, statement{Sid: "NoOtherDestination", Effect: "Deny", Action: values{"kms:ReEncryptTo"}, NotResource: p.Key})
	case administrator:
		statements = []statement{{Sid: "Manage", Effect: "Allow", Action: manages, Resource: p.Key}}
		if len(p.Alias) > 0 {
			resources := slices.Clone(p.Key)
			for _, name := range p.Alias {
				if !aliasForm.MatchString(name) || strings.HasPrefix(name, "alias/aws/") {
					return fail, usage("--alias %q: expected a name such as alias/clinic/production, without region and account", name)
				}
				for _, k := range keys {
					resources = append(resources, k.prefix+name)
				}
			}
			statements = append(statements, statement{Sid: "Name", Effect: "Allow", Action: namesKeys, Resource: resources})
		}
		statements = append(statements,
			statement{Sid: "List", Effect: "Allow", Action: values{"kms:ListAliases", "kms:ListKeys"}, Resource: values{"*"}},
			// Whatever other policies or the key's own allow.
			statement{Sid: "NoUse", Effect: "Deny", Action: slices.Concat(cryptographic, values{"kms:CreateGrant"}), Resource: p.Key})
	default:
		statements = []statement{{Sid: letters(p.Role), Effect: "Allow", Action: uses[p.Role], Resource: p.Key, Condition: p.Context.conditions(p.Context.Context)}}
		if p.Context.Index {
			statements = append(statements, statement{Sid: "Index", Effect: "Allow", Action: finds, Resource: p.Key, Condition: p.Context.indexConditions()})
		}
	}
	if p.Check && p.Role != administrator {
		statements = append(statements, statement{Sid: "Check", Effect: "Allow", Action: values{"kms:DescribeKey"}, Resource: slices.Concat(p.Key, p.From)})
	}
	d := newDocument(statements...)
	_, err := d.fits(maxIdentityPolicy)
	return d, err
}

func (p *policyAWS) fromContext() (map[string]string, error) {
	name, value, ok := strings.Cut(p.FromContext, "=")
	switch {
	case p.FromContext == "":
		return p.Context.Context, nil
	case p.FromContext == "none":
		return nil, nil
	case !ok:
		return nil, usage("--from-context %q: expected a constant such as environment=staging, or none", p.FromContext)
	}
	f := contextFlags{Context: map[string]string{name: value}}
	return f.Context, f.check()
}

// rotates is the two halves of ReEncrypt. Each half is asked on its own: no condition says that the model is the same in both.
func rotates(from, to conditions, sources, destinations values, same bool) []statement {
	if same {
		from["Bool"] = map[string]values{"kms:ReEncryptOnSameKey": {"true"}}
		to["Bool"] = from["Bool"]
	}
	return []statement{
		{Sid: "RotatorFrom", Effect: "Allow", Action: values{"kms:ReEncryptFrom"}, Resource: sources, Condition: from},
		{Sid: "RotatorTo", Effect: "Allow", Action: values{"kms:ReEncryptTo"}, Resource: destinations, Condition: to},
	}
}

func (p *policyAWS) keyPolicy() (document, error) {
	var fail document
	switch {
	case p.Role != "":
		return fail, usage("--role belongs to --kind identity: a key policy has all roles, with --writer ARN and so on")
	case len(p.From) > 0 || p.FromContext != "" || len(p.Alias) > 0:
		return fail, usage("--from, --from-context and --alias belong to --kind identity")
	case len(p.Key) > 1:
		return fail, usage("--key: a key policy is of one key")
	}
	account, partition := p.Account, ""
	if len(p.Key) == 1 {
		k, err := parseKeyARN(p.Key[0])
		if err != nil {
			return fail, err
		}
		if account != "" && account != k.account {
			return fail, usage("--account %s is not the account of --key, %s", account, k.account)
		}
		account, partition = k.account, k.partition
	}
	if account == "" {
		return fail, usage("--account is missing: whose key it is, or its ARN with --key")
	}
	return newKeyPolicy(account, partition, p.Principals, p.Context, p.Check)
}

func (f principalFlags) users() map[string][]string {
	return map[string][]string{writer: f.Writer, reader: f.Reader, rotator: f.Rotator, application: f.Application}
}

func (f principalFlags) any() bool {
	n := len(f.Administrator) + len(f.BreakGlass) + len(f.AccountMay)
	for _, who := range f.users() {
		n += len(who)
	}
	return n > 0 || f.SameKey
}

// newKeyPolicy is the policy of one key; partition may be unknown. A policy of a key means that key by the resource "*".
func newKeyPolicy(account, partition string, who principalFlags, ctx contextFlags, check bool) (document, error) {
	var fail document
	if !accountForm.MatchString(account) {
		return fail, usage("--account %q: expected twelve digits", account)
	}
	users := who.users()
	named := maps.Clone(users)
	named[administrator], named["break-glass"] = who.Administrator, who.BreakGlass
	for _, role := range slices.Sorted(maps.Keys(named)) {
		for _, arn := range named[role] {
			m := principalForm.FindStringSubmatch(arn)
			switch {
			case m == nil:
				return fail, usage("--%s %q: expected the ARN of an IAM role or user, such as arn:aws:iam::111122223333:role/%s", role, arn, role)
			case partition != "" && m[1] != partition:
				return fail, usage("--%s %q: the key, or another principal, is in partition %s", role, arn, partition)
			}
			partition = m[1]
		}
	}
	if partition == "" {
		partition = "aws"
	}
	anyUser := len(who.Writer)+len(who.Reader)+len(who.Rotator)+len(who.Application) > 0
	may := who.AccountMay
	if may == "" {
		may = "use"
		if anyUser {
			may = "manage"
		}
	}
	everything := values{"*"}
	var statements []statement
	allow := func(sid string, principal []string, actions values, c conditions) {
		if len(principal) > 0 {
			statements = append(statements, statement{Sid: sid, Effect: "Allow", Principal: &principals{principal}, Action: actions, Resource: everything, Condition: c})
		}
	}
	root := []string{"arn:" + partition + ":iam::" + account + ":root"}
	managesAndNames := slices.Sorted(slices.Values(slices.Concat(manages, namesKeys)))
	switch may {
	case "use":
		allow("AccountMayUse", root, values{"kms:*"}, nil)
	case "manage":
		allow("AccountMayManage", root, managesAndNames, nil)
	case "nothing":
		if len(who.Administrator) == 0 {
			return fail, usage("--account-may nothing needs an --administrator: without either, only AWS's support can manage the key again")
		}
	default:
		return fail, usage("--account-may %q: expected use, manage or nothing", may)
	}
	allow("Administrator", who.Administrator, managesAndNames, nil)
	for _, role := range []string{writer, reader, application} {
		allow(letters(role), users[role], uses[role], ctx.conditions(ctx.Context))
	}
	if ctx.Index {
		allow("Index", slices.Concat(who.Writer, who.Reader, who.Application), finds, ctx.indexConditions())
	}
	if len(who.Rotator) > 0 {
		for _, s := range rotates(ctx.conditions(ctx.Context), ctx.conditions(ctx.Context), everything, everything, who.SameKey) {
			s.Principal = &principals{who.Rotator}
			statements = append(statements, s)
		}
	}
	if check {
		allow("Check", slices.Concat(who.Writer, who.Reader, who.Application, who.Rotator), values{"kms:DescribeKey"}, nil)
	}
	statements = append(statements, ctx.guards()...)
	// AWS KMS has no switch that protects a key from deletion.
	ends := values{"kms:DisableKey", "kms:ScheduleKeyDeletion"}
	protect := statement{Sid: "NoDeletion", Effect: "Deny", Principal: &principals{everything}, Action: ends, Resource: everything}
	if len(who.BreakGlass) > 0 {
		allow("BreakGlass", who.BreakGlass, slices.Concat(ends, values{"kms:CancelKeyDeletion", "kms:DescribeKey", "kms:EnableKey"}), nil)
		protect.Condition = conditions{"ArnNotEquals": {"aws:PrincipalArn": who.BreakGlass}}
	}
	d := newDocument(append(statements, protect)...)
	_, err := d.fits(maxKeyPolicy)
	return d, err
}

var (
	keyForm       = regexp.MustCompile(`^(arn:(aws[a-z0-9-]*):kms:([a-z0-9-]+):([0-9]{12}):)key/(?:mrk-[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)
	principalForm = regexp.MustCompile(`^arn:(aws[a-z0-9-]*):iam::[0-9]{12}:(?:role|user)/[\w+=,.@/-]+$`)
	accountForm   = regexp.MustCompile(`^[0-9]{12}$`)
	aliasForm     = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]{1,250}$`)
)

type keyARN struct{ prefix, partition, region, account string }

func parseKeyARN(text string) (keyARN, error) {
	if m := keyForm.FindStringSubmatch(text); m != nil {
		return keyARN{m[1], m[2], m[3], m[4]}, nil
	}
	const form = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	if strings.Contains(text, "alias/") {
		return keyARN{}, usage("--key %q is an alias, which IAM does not look at; give the key's ARN, as aws kms describe-key --key-id %s --query KeyMetadata.Arn shows it", text, text)
	}
	return keyARN{}, usage("--key %q: expected the ARN of a key, such as %s", text, form)
}
