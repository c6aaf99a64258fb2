// relic's own signers and verifier over key files: its command line links clients of three clouds, which
// takes minutes to build.
//
//	relic verify --cert ROOT.pem FILE...
//	relic sign CERTIFICATES.pem KEY.pem FILE...    each in its place
package main

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"os"
	"time"

	"github.com/sassoftware/relic/v8/cmdline/shared"
	_ "github.com/sassoftware/relic/v8/cmdline/verify"
	"github.com/sassoftware/relic/v8/lib/audit"
	"github.com/sassoftware/relic/v8/lib/certloader"
	"github.com/sassoftware/relic/v8/signers"
	_ "github.com/sassoftware/relic/v8/signers/appx"
	_ "github.com/sassoftware/relic/v8/signers/cab"
	_ "github.com/sassoftware/relic/v8/signers/cat"
	_ "github.com/sassoftware/relic/v8/signers/jar"
	_ "github.com/sassoftware/relic/v8/signers/msi"
	_ "github.com/sassoftware/relic/v8/signers/pecoff"
	_ "github.com/sassoftware/relic/v8/signers/ps"
	_ "github.com/sassoftware/relic/v8/signers/vsix"
	"github.com/spf13/cobra"
)

func sign(path string, certificate *certloader.Certificate) error {
	format, err := signers.ByFile(path, "")
	if err != nil {
		return err
	}
	flags, err := format.FlagsFromCmdline(signCommand.Flags())
	if err != nil {
		return err
	}
	source, err := os.OpenFile(path, os.O_RDWR, 0) // some formats are patched in place
	if err != nil {
		return err
	}
	defer source.Close()
	options := signers.SignOpts{
		Hash:  crypto.SHA256,
		Time:  time.Now().UTC(),
		Path:  path,
		Audit: audit.New("tests", format.Name, crypto.SHA256),
		Flags: flags,
	}.WithContext(context.Background())
	transform, err := format.GetTransform(source, options)
	if err != nil {
		return err
	}
	stream, err := transform.GetReader()
	if err != nil {
		return err
	}
	signature, err := format.Sign(stream, certificate, options)
	if err != nil {
		return err
	}
	if err := transform.Apply(path, options.Audit.GetMimeType(), bytes.NewReader(signature)); err != nil {
		return err
	}
	if format.Fixup == nil {
		return nil
	}
	signed, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer signed.Close()
	return format.Fixup(signed)
}

var signCommand = &cobra.Command{
	Use:  "sign CERTIFICATES KEY FILE...",
	Args: cobra.MinimumNArgs(3),
}

func signAll(_ *cobra.Command, arguments []string) error {
	certificate, err := certloader.LoadX509KeyPair(arguments[0], arguments[1])
	if err != nil {
		return err
	}
	for _, path := range arguments[2:] {
		if err := sign(path, certificate); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

func main() {
	signCommand.RunE = signAll
	shared.RootCmd.AddCommand(signCommand)
	shared.AddLateHook(func() { signers.MergeFlags(signCommand) })
	shared.Main()
}
