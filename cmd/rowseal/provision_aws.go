// provision_aws.go owns keys of AWS KMS: one for each region, found again by its alias or, where that is not made yet, by its tag.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

type provisionAWS struct {
	App      string   `required:"" placeholder:"NAME" help:"The application."`
	Env      string   `required:"" placeholder:"NAME" help:"The environment. The alias is alias/APP/ENV, or alias/APP/ENV/CLASS."`
	Class    string   `placeholder:"NAME" help:"The classification of the data, where an application has several keys."`
	Region   []string `sep:"none" placeholder:"NAME" help:"Where; repeat it for one more key, which is independent of the first. Defaults to the region of the AWS configuration."`
	Account  string   `placeholder:"DIGITS" help:"The account. Defaults to the one that AWS names for the credentials."`
	DryRun   bool     `help:"Look and print what would be done, and change nothing."`
	Format   string   `enum:"text,json,terraform" default:"text" placeholder:"FORMAT" help:"text, json or terraform, which prints the configuration, looks at no key and changes nothing. Defaults to ${default}."`
	Endpoint string   `placeholder:"URL" help:"Ask this address instead of AWS KMS, for tests."`

	Context    contextFlags   `embed:"" group:"Encryption context:"`
	Check      bool           `group:"Key policy:" help:"Allow those who use the key kms:DescribeKey as well."`
	Principals principalFlags `embed:"" group:"Key policy:"`
}

const (
	rotationDays = 365 // AWS's own default; the shortest that an auditor asks for
	deletionDays = 30  // the longest that AWS waits

	// aliasTag tells whose key it is while the alias is not there, or has been moved.
	aliasTag = "rowseal:alias"
)

var nameForm = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

// step is one thing that a key should have, and what is done about it.
type step struct {
	What   string `json:"what"` // "key", "policy", …
	Act    string `json:"act"`  // "keep", "make", "mend", "leave"
	Detail string `json:"detail"`
	run    func(ctx context.Context) error
}

// place is one region's key.
type place struct {
	Region   string `json:"region"`
	Key      string `json:"key,omitempty"` // ARN, "" where it is not made yet
	AliasARN string `json:"alias"`
	Steps    []step `json:"steps"`

	client *kms.Client
	policy string
}

func (p *provisionAWS) Run(a *app) error {
	for name, value := range map[string]string{"app": p.App, "env": p.Env, "class": p.Class} {
		if !nameForm.MatchString(value) && (name != "class" || value != "") {
			return usage("--%s %q: expected letters, digits, '-' and '_', as the alias has them", name, value)
		}
	}
	if p.App == "aws" {
		return usage("--app aws: aliases that begin with alias/aws/ are reserved for AWS")
	}
	if err := p.Context.check(); err != nil {
		return err
	}
	ctx := a.ctx
	load, cancel := context.WithTimeout(ctx, callTimeout)
	cfg, err := config.LoadDefaultConfig(load)
	cancel()
	if err != nil {
		return fmt.Errorf("read the AWS configuration: %w", err)
	}
	regions := p.Region
	if len(regions) == 0 && cfg.Region != "" {
		regions = []string{cfg.Region}
	}
	if len(regions) == 0 {
		return usage("--region is missing, and the AWS configuration has none (AWS_REGION)")
	}
	for i, r := range regions {
		if !regionForm.MatchString(r) {
			return usage("--region %q: expected a region, such as eu-central-1", r)
		}
		if slices.Contains(regions[:i], r) {
			return usage("--region %s is there twice", r)
		}
	}
	cfg.Region = regions[0]
	account, partition := p.Account, partitionOf(regions[0])
	if account == "" {
		if account, partition, err = accountOf(ctx, cfg); err != nil {
			return err
		}
	}
	d, err := newKeyPolicy(account, partition, p.Principals, p.Context, p.Check)
	if err != nil {
		return err
	}
	if p.Format == "terraform" {
		return p.terraform(a.stdout, regions, d)
	}
	policy, err := d.fits(maxKeyPolicy)
	if err != nil {
		return err
	}

	var places []*place
	for _, region := range regions {
		l := &place{Region: region, policy: policy, client: kms.NewFromConfig(cfg, func(o *kms.Options) {
			o.Region = region
			if p.Endpoint != "" {
				o.BaseEndpoint = aws.String(p.Endpoint)
			}
		})}
		l.AliasARN = "arn:" + partition + ":kms:" + region + ":" + account + ":" + p.alias()
		// All is looked at before anything is made, so that what is refused in one region leaves the others as they are.
		if err := p.look(ctx, a, l); err != nil {
			return fmt.Errorf("%s: %w", region, err)
		}
		places = append(places, l)
	}
	changes := 0
	for _, l := range places {
		for _, s := range l.Steps {
			if s.run == nil || p.DryRun {
				continue
			}
			if err := s.run(ctx); err != nil {
				return fmt.Errorf("%s: %s the %s: %w\n%s before; the same command goes on from here", l.Region, s.Act, s.What, err, changed(changes))
			}
			changes++
		}
	}
	if err := p.print(a, places, changes); err != nil {
		return err
	}
	var left []string
	for _, l := range places {
		for _, s := range l.Steps {
			if s.Act == "leave" {
				left = append(left, l.Region+": "+s.Detail)
			}
		}
	}
	if len(left) > 0 {
		return errors.New(strings.Join(left, "\n"))
	}
	return nil
}

func (p *provisionAWS) alias() string {
	return "alias/" + strings.Join(p.names(), "/")
}

func (p *provisionAWS) names() []string {
	if p.Class == "" {
		return []string{p.App, p.Env}
	}
	return []string{p.App, p.Env, p.Class}
}

func (p *provisionAWS) description() string { return "Rowseal: " + strings.Join(p.names(), " ") }

func (p *provisionAWS) tags() [][2]string {
	tags := [][2]string{{aliasTag, p.alias()}, {"rowseal:application", p.App}, {"rowseal:environment", p.Env}}
	if p.Class != "" {
		tags = append(tags, [2]string{"rowseal:classification", p.Class})
	}
	return tags
}

// look finds the region's key and plans its steps. It makes no call that changes anything.
func (p *provisionAWS) look(ctx context.Context, a *app, l *place) error {
	key, err := p.byAlias(ctx, l)
	if err != nil {
		return err
	}
	named := key != nil
	if !named {
		if key, err = p.byTag(ctx, l); err != nil {
			return err
		}
	}
	plan := func(what, act, detail string, run func(ctx context.Context) error) {
		l.Steps = append(l.Steps, step{what, act, detail, run})
	}
	rotate := func(ctx context.Context) error {
		return a.settled(ctx, func() error {
			return call0(ctx, "kms:EnableKeyRotation", l.client.EnableKeyRotation, &kms.EnableKeyRotationInput{KeyId: &l.Key, RotationPeriodInDays: aws.Int32(rotationDays)})
		})
	}
	rotation := fmt.Sprintf("every %d days", rotationDays)
	if key == nil {
		plan("key", "make", fmt.Sprintf("symmetric, %q, with %d tags", p.description(), len(p.tags())), func(ctx context.Context) error { return p.make(ctx, l) })
		plan("policy", "make", "with the key: "+p.who(), nil)
		plan("rotation", "make", rotation, rotate)
	} else {
		l.Key = aws.ToString(key.Arn)
		if err := p.usable(key); err != nil {
			return err
		}
		plan("key", "keep", l.Key, nil)
		if err := p.compare(ctx, l, named, plan); err != nil {
			return err
		}
		out, err := call(ctx, "kms:GetKeyRotationStatus", l.client.GetKeyRotationStatus, &kms.GetKeyRotationStatusInput{KeyId: &l.Key})
		switch {
		case err != nil:
			return err
		case !out.KeyRotationEnabled && !named:
			plan("rotation", "make", rotation, rotate)
		case !out.KeyRotationEnabled:
			plan("rotation", "mend", "it is off; "+rotation, rotate)
		case aws.ToInt32(out.RotationPeriodInDays) > rotationDays:
			plan("rotation", "mend", fmt.Sprintf("it is every %d days; %s", aws.ToInt32(out.RotationPeriodInDays), rotation), rotate)
		default:
			plan("rotation", "keep", fmt.Sprintf("every %d days", aws.ToInt32(out.RotationPeriodInDays)), nil)
		}
	}
	if named {
		plan("alias", "keep", p.alias(), nil)
		return nil
	}
	// Last, so that whoever finds the alias finds a key that is whole.
	plan("alias", "make", p.alias(), func(ctx context.Context) error {
		return a.settled(ctx, func() error {
			return call0(ctx, "kms:CreateAlias", l.client.CreateAlias, &kms.CreateAliasInput{AliasName: aws.String(p.alias()), TargetKeyId: &l.Key})
		})
	})
	return nil
}

// byAlias is the key that the alias points to, nil where there is none. A key that is not ours is refused: another service may read its rows
// through that alias.
func (p *provisionAWS) byAlias(ctx context.Context, l *place) (*types.KeyMetadata, error) {
	out, err := call(ctx, "kms:DescribeKey", l.client.DescribeKey, &kms.DescribeKeyInput{KeyId: aws.String(p.alias())})
	if _, missing := errors.AsType[*types.NotFoundException](err); missing {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	arn := aws.ToString(out.KeyMetadata.Arn)
	tags, err := tagsOf(ctx, l.client, arn)
	if err != nil {
		return nil, err
	}
	switch of := tags[aliasTag]; of {
	case p.alias():
		return out.KeyMetadata, nil
	case "":
		return nil, fmt.Errorf("%s points to %s, which was not made here. An alias is never moved by this command. If that is the key that you mean:\n"+
			"  aws kms tag-resource --region %s --key-id %s --tags TagKey=%s,TagValue=%s\nElse give another --class, or delete the alias:\n"+
			"  aws kms delete-alias --region %s --alias-name %s", p.alias(), arn, l.Region, arn, aliasTag, p.alias(), l.Region, p.alias())
	default:
		return nil, fmt.Errorf("%s points to %s, which is the key of %s. An alias is never moved by this command. See which rows lie under which key before you do:\n"+
			"  aws kms update-alias --region %s --alias-name %s --target-key-id …", p.alias(), arn, of, l.Region, p.alias())
	}
}

// byTag is the key that an earlier run made and did not come to name, or that has lost its name; nil where there is none. It asks for the tags
// of every key in the region: there is no call that finds a key by one.
func (p *provisionAWS) byTag(ctx context.Context, l *place) (*types.KeyMetadata, error) {
	ofAWS := map[string]bool{}
	aliases := kms.NewListAliasesPaginator(l.client, &kms.ListAliasesInput{})
	for aliases.HasMorePages() {
		out, err := call(ctx, "kms:ListAliases", func(ctx context.Context, _ *struct{}, o ...func(*kms.Options)) (*kms.ListAliasesOutput, error) {
			return aliases.NextPage(ctx, o...)
		}, nil)
		if err != nil {
			return nil, err
		}
		for _, alias := range out.Aliases {
			if strings.HasPrefix(aws.ToString(alias.AliasName), "alias/aws/") {
				ofAWS[aws.ToString(alias.TargetKeyId)] = true
			}
		}
	}
	var found []*types.KeyMetadata
	keys := kms.NewListKeysPaginator(l.client, &kms.ListKeysInput{Limit: aws.Int32(1000)})
	for keys.HasMorePages() {
		out, err := call(ctx, "kms:ListKeys", func(ctx context.Context, _ *struct{}, o ...func(*kms.Options)) (*kms.ListKeysOutput, error) {
			return keys.NextPage(ctx, o...)
		}, nil)
		if err != nil {
			return nil, err
		}
		for _, k := range out.Keys {
			if ofAWS[aws.ToString(k.KeyId)] {
				continue
			}
			tags, err := tagsOf(ctx, l.client, aws.ToString(k.KeyArn))
			// A key whose own policy shows nothing to these credentials is not of theirs: AWS takes no policy that locks its maker out. Any
			// other denial could hide the key that is looked for.
			if isDenied(err) && strings.Contains(err.Error(), "resource-based policy") {
				continue
			}
			if err != nil {
				return nil, err
			}
			if tags[aliasTag] != p.alias() {
				continue
			}
			out, err := call(ctx, "kms:DescribeKey", l.client.DescribeKey, &kms.DescribeKeyInput{KeyId: k.KeyArn})
			if err != nil {
				return nil, err
			}
			// Whoever took its alias and scheduled its deletion wants another.
			if out.KeyMetadata.KeyState != types.KeyStatePendingDeletion {
				found = append(found, out.KeyMetadata)
			}
		}
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return found[0], nil
	}
	var arns []string
	for _, k := range found {
		arns = append(arns, aws.ToString(k.Arn))
	}
	return nil, fmt.Errorf("there is no %s, and %d keys have it as their tag: %s. Take the tag from all but one:\n  aws kms untag-resource --region %s --key-id … --tag-keys %s",
		p.alias(), len(found), strings.Join(arns, ", "), l.Region, aliasTag)
}

// usable refuses a key that someone has disabled, or that is of another kind. Whoever disabled it had a reason.
func (p *provisionAWS) usable(k *types.KeyMetadata) error {
	arn := aws.ToString(k.Arn)
	switch {
	case k.KeySpec != types.KeySpecSymmetricDefault || k.KeyUsage != types.KeyUsageTypeEncryptDecrypt || k.Origin != types.OriginTypeAwsKms || aws.ToBool(k.MultiRegion):
		return fmt.Errorf("the key %s is not a symmetric key of one region with material of AWS (%s, %s, %s); give another --class", arn, k.KeySpec, k.KeyUsage, k.Origin)
	case k.KeyState == types.KeyStateDisabled:
		return fmt.Errorf("the key %s is disabled. If that was a mistake: aws kms enable-key --key-id %s", arn, arn)
	case k.KeyState == types.KeyStatePendingDeletion:
		return fmt.Errorf("the key %s is to be deleted, and all that lies under it is lost then. If that is a mistake: aws kms cancel-key-deletion --key-id %s", arn, arn)
	case k.KeyState != types.KeyStateEnabled:
		return fmt.Errorf("the key %s is in the state %s; try again later", arn, k.KeyState)
	}
	return nil
}

// compare holds policy and tags of a key that is there to what they should be. A tag is added. A policy is left: putting another one can cut
// off who uses the key, and somebody may have changed it for a reason.
func (p *provisionAWS) compare(ctx context.Context, l *place, named bool, plan func(what, act, detail string, run func(context.Context) error)) error {
	out, err := call(ctx, "kms:GetKeyPolicy", l.client.GetKeyPolicy, &kms.GetKeyPolicyInput{KeyId: &l.Key})
	if err != nil {
		return err
	}
	switch same := samePolicy(aws.ToString(out.Policy), l.policy); {
	case same:
		plan("policy", "keep", p.who(), nil)
	case !named:
		// Anybody who may tag keys could offer one of their own.
		return fmt.Errorf("the key %s has the tag of an earlier run that was interrupted, and another policy than this command's. Give the flags of that run, or take the tag from the key:\n"+
			"  aws kms untag-resource --region %s --key-id %s --tag-keys %s", l.Key, l.Region, l.Key, aliasTag)
	default:
		plan("policy", "leave", "the policy of "+l.Key+" differs from the one that these flags give, and was left. Compare:\n"+
			"  aws kms get-key-policy --region "+l.Region+" --key-id "+l.Key+" --output text\n"+
			"  rowseal policy aws --kind key --key "+l.Key+" … > policy.json\nTo replace it:\n"+
			"  aws kms put-key-policy --region "+l.Region+" --key-id "+l.Key+" --policy file://policy.json", nil)
	}
	have, err := tagsOf(ctx, l.client, l.Key)
	if err != nil {
		return err
	}
	var missing []types.Tag
	for _, t := range p.tags() {
		if have[t[0]] == "" {
			missing = append(missing, types.Tag{TagKey: &t[0], TagValue: &t[1]})
		}
	}
	if len(missing) > 0 {
		plan("tags", "mend", fmt.Sprintf("%d are missing", len(missing)), func(ctx context.Context) error {
			return call0(ctx, "kms:TagResource", l.client.TagResource, &kms.TagResourceInput{KeyId: &l.Key, Tags: missing})
		})
	}
	return nil
}

// make creates the key with all that can be given at once, so that it never is without its policy and its tag.
func (p *provisionAWS) make(ctx context.Context, l *place) error {
	var tags []types.Tag
	for _, t := range p.tags() {
		tags = append(tags, types.Tag{TagKey: aws.String(t[0]), TagValue: aws.String(t[1])})
	}
	in := &kms.CreateKeyInput{Description: aws.String(p.description()), Policy: &l.policy, Tags: tags}
	// Sent once: a second request after a lost answer makes a second key.
	out, err := call(ctx, "kms:CreateKey", func(ctx context.Context, in *kms.CreateKeyInput, o ...func(*kms.Options)) (*kms.CreateKeyOutput, error) {
		return l.client.CreateKey(ctx, in, append(o, func(o *kms.Options) { o.Retryer = aws.NopRetryer{} })...)
	}, in)
	if err != nil {
		if _, answered := errors.AsType[smithy.APIError](err); !answered {
			return fmt.Errorf("%w; the key may have been made all the same: wait a minute, so that the next run finds it by its tag", err)
		}
		return err
	}
	l.Key = aws.ToString(out.KeyMetadata.Arn)
	return nil
}

// who says in a few words whom the policy allows what.
func (p *provisionAWS) who() string {
	var parts []string
	users := p.Principals.users()
	users[administrator] = p.Principals.Administrator
	for _, role := range []string{administrator, writer, reader, rotator, application} {
		if n := len(users[role]); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, role))
		}
	}
	if len(parts) == 0 {
		parts = []string{"IAM policies of the account decide"}
	}
	if len(p.Principals.BreakGlass) == 0 {
		return strings.Join(parts, ", ") + "; nobody may disable or delete"
	}
	return strings.Join(parts, ", ") + "; only break-glass may disable or delete"
}

func tagsOf(ctx context.Context, client *kms.Client, key string) (map[string]string, error) {
	tags := map[string]string{}
	pages := kms.NewListResourceTagsPaginator(client, &kms.ListResourceTagsInput{KeyId: &key})
	for pages.HasMorePages() {
		out, err := call(ctx, "kms:ListResourceTags", func(ctx context.Context, _ *struct{}, o ...func(*kms.Options)) (*kms.ListResourceTagsOutput, error) {
			return pages.NextPage(ctx, o...)
		}, nil)
		if err != nil {
			return nil, err
		}
		for _, t := range out.Tags {
			tags[aws.ToString(t.TagKey)] = aws.ToString(t.TagValue)
		}
	}
	return tags, nil
}

// samePolicy compares what the policies say: AWS may lay one out differently, and one value is the same as a list of it.
func samePolicy(a, b string) bool {
	read := func(text string) any {
		var v any
		if json.Unmarshal([]byte(text), &v) != nil {
			return nil
		}
		return normal(v)
	}
	x := read(a)
	return x != nil && reflect.DeepEqual(x, read(b))
}

func normal(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			v[name] = normal(value)
		}
		return v
	case []any:
		for i := range v {
			v[i] = normal(v[i])
		}
		if len(v) == 1 {
			return v[0]
		}
		if _, isText := v[0].(string); isText {
			slices.SortFunc(v, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		}
		return v
	}
	return v
}

// callTimeout bounds each call, its retries included, and the search for credentials.
const callTimeout = 30 * time.Second

func call[I, O any](ctx context.Context, action string, f func(context.Context, *I, ...func(*kms.Options)) (*O, error), in *I) (*O, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := f(ctx, in)
	if err != nil {
		return nil, explain(action, err)
	}
	return out, nil
}

func call0[I, O any](ctx context.Context, action string, f func(context.Context, *I, ...func(*kms.Options)) (*O, error), in *I) error {
	_, err := call(ctx, action, f, in)
	return err
}

func isDenied(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && api.ErrorCode() == "AccessDeniedException"
}

// explain says the next step, where the error tells it.
func explain(action string, err error) error {
	var next string
	api, ok := errors.AsType[smithy.APIError](err)
	switch {
	case !ok && strings.Contains(err.Error(), "failed to refresh cached credentials"):
		next = "no credentials were found: log in (aws sso login), or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
	case !ok:
		return fmt.Errorf("%s: %w", action, err)
	default:
		switch api.ErrorCode() {
		case "ExpiredTokenException", "ExpiredToken", "RequestExpired":
			next = "the credentials have expired: log in again (aws sso login)"
		case "UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException", "SignatureDoesNotMatch", "MissingAuthenticationTokenException":
			next = "the credentials are not valid in this region: check AWS_PROFILE and the clock"
		case "AccessDeniedException", "AccessDenied":
			next = "allow this principal " + action
		case "MalformedPolicyDocumentException":
			next = "does every principal exist, is --account that of the credentials, and may these credentials put a policy under the new one?"
		case "LimitExceededException":
			next = "ask AWS for a higher quota of keys or aliases"
		}
	}
	if next == "" {
		return fmt.Errorf("%s: %w", action, err)
	}
	return fmt.Errorf("%s: %w; %s", action, err, next)
}

// settled repeats f while a key that has just been made is not known everywhere at AWS.
func (a *app) settled(ctx context.Context, f func() error) error {
	for pause := 500 * time.Millisecond; ; pause *= 2 {
		err := f()
		if _, missing := errors.AsType[*types.NotFoundException](err); !missing || pause > 8*time.Second {
			return err
		}
		if err := a.sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func accountOf(ctx context.Context, cfg aws.Config) (account, partition string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", "", fmt.Errorf("ask AWS for the account (--account saves the call): %w", explain("sts:GetCallerIdentity", err))
	}
	parts := strings.Split(aws.ToString(out.Arn), ":")
	if len(parts) < 5 {
		return "", "", fmt.Errorf("ask AWS for the account: it answered with %q; give --account", aws.ToString(out.Arn))
	}
	return aws.ToString(out.Account), parts[1], nil
}

var regionForm = regexp.MustCompile(`^[a-z]{2,}(-[a-z0-9]+)+-[0-9]+$`)

// partitionOf is the partition of a region. It counts only with --account: else AWS says it.
func partitionOf(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	case strings.HasPrefix(region, "eusc-"):
		return "aws-eusc"
	}
	return "aws"
}

func changed(n int) string {
	switch n {
	case 0:
		return "nothing was changed"
	case 1:
		return "1 thing was changed"
	}
	return fmt.Sprintf("%d things were changed", n)
}

func (p *provisionAWS) print(a *app, places []*place, changes int) error {
	if p.Format == "json" {
		return printJSON(a.stdout, struct {
			DryRun  bool     `json:"dryRun"`
			Changes int      `json:"changes"`
			Regions []*place `json:"regions"`
		}{p.DryRun, changes, places})
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	planned := 0
	for _, l := range places {
		fmt.Fprintln(w, l.Region)
		for _, s := range l.Steps {
			detail, _, _ := strings.Cut(s.Detail, ". ")
			if s.What == "key" && l.Key != "" {
				detail = l.Key
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\n", s.What, s.Act, detail)
			if s.run != nil {
				planned++
			}
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	switch {
	case p.DryRun:
		fmt.Fprintf(&b, "\nA dry run: nothing was changed. Without --dry-run, %d calls would change something.\n", planned)
	case changes == 0:
		fmt.Fprintf(&b, "\nNothing to do: %s.\n", changed(0))
	default:
		fmt.Fprintf(&b, "\n%s.\n", changed(changes))
	}
	var urls []string
	for _, l := range places {
		urls = append(urls, "awskms:"+l.AliasARN)
	}
	fmt.Fprintf(&b, "\nTo use it, by its URL, or with a client of the key's region:\n\n\tkmsurl.Open(ctx, %q)\n", strings.Join(urls, " "))
	for _, l := range places {
		fmt.Fprintf(&b, "\tawskms.New(client, %q, awskms.Config{})\n", l.AliasARN)
	}
	_, err := io.WriteString(a.stdout, b.String())
	return err
}
