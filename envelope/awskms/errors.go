// SPDX-License-Identifier: GPL-3.0-or-later

package awskms

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"unicode"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/hyperiondb/hyperion-vault/envelope"
)

// kinds are the codes that the KMS and what stands before it answer with
// (AWS KMS API Reference, "Common Error Types", GenerateDataKey and Decrypt).
var kinds = map[string]envelope.KMSErrorKind{
	"InvalidCiphertextException": envelope.KMSInvalid,
	"IncorrectKeyException":      envelope.KMSInvalid,
	"ValidationException":        envelope.KMSInvalid,

	"NotFoundException":   envelope.KMSNotFound,
	"InvalidArnException": envelope.KMSNotFound,

	"DisabledException":          envelope.KMSDisabled,
	"KMSInvalidStateException":   envelope.KMSDisabled, // pending deletion, or import
	"InvalidKeyUsageException":   envelope.KMSDisabled, // not for encryption
	"KeyUnavailableException":    envelope.KMSUnavailable,
	"DependencyTimeoutException": envelope.KMSUnavailable,
	"KMSInternalException":       envelope.KMSUnavailable,

	"AccessDeniedException":               envelope.KMSDenied,
	"AccessDenied":                        envelope.KMSDenied,
	"UnrecognizedClientException":         envelope.KMSDenied,
	"InvalidClientTokenId":                envelope.KMSDenied,
	"InvalidSignatureException":           envelope.KMSDenied,
	"SignatureDoesNotMatch":               envelope.KMSDenied,
	"IncompleteSignature":                 envelope.KMSDenied,
	"IncompleteSignatureException":        envelope.KMSDenied,
	"MissingAuthenticationToken":          envelope.KMSDenied,
	"MissingAuthenticationTokenException": envelope.KMSDenied,
	"ExpiredToken":                        envelope.KMSDenied,
	"ExpiredTokenException":               envelope.KMSDenied,
	"NotAuthorized":                       envelope.KMSDenied,
	"OptInRequired":                       envelope.KMSDenied,
	"InvalidGrantTokenException":          envelope.KMSDenied,

	"ThrottlingException":      envelope.KMSThrottled,
	"Throttling":               envelope.KMSThrottled,
	"LimitExceededException":   envelope.KMSThrottled,
	"RequestLimitExceeded":     envelope.KMSThrottled,
	"TooManyRequestsException": envelope.KMSThrottled,
	"SlowDown":                 envelope.KMSThrottled,
}

// maxMessage bounds what is told on of an answer's own words.
const maxMessage = 300

// classify makes a *KMSError of what the SDK returns. The SDK's own error is not
// wrapped: where it could not read an answer it may quote it.
func classify(operation string, err error) error {
	var (
		kind      = envelope.KMSUnavailable
		text      string
		api       smithy.APIError
		response  *awshttp.ResponseError
		unread    *smithy.DeserializationError
		netError  *net.OpError
		hasAnswer = errors.As(err, &response)
	)
	switch {
	case errors.As(err, &api) && api.ErrorCode() != "" && api.ErrorCode() != "UnknownError":
		known, ok := kinds[api.ErrorCode()]
		if ok {
			kind = known
		} else if hasAnswer && response.HTTPStatusCode() == http.StatusTooManyRequests {
			kind = envelope.KMSThrottled
		}
		text = printable(api.ErrorCode()) + ": " + printable(api.ErrorMessage())
	case errors.As(err, &unread) || hasAnswer:
		text = "its answer cannot be read"
	case errors.Is(err, context.DeadlineExceeded):
		text = "no answer in time"
	case errors.Is(err, context.Canceled):
		text = "given up"
	case errors.As(err, &netError):
		text = netError.Error()
	default:
		text = "not reached"
	}
	if hasAnswer {
		text = fmt.Sprintf("%s (HTTP %d, request %s)", text, response.HTTPStatusCode(), printable(response.ServiceRequestID()))
	}
	return &envelope.KMSError{Kind: kind, Err: fmt.Errorf("%s: %s", operation, text)}
}

// printable is a short text for a log, whoever wrote it.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s[:min(len(s), maxMessage)])
	return strings.ToValidUTF8(s, "")
}

// errNoCredentials does not tell what each place said where the SDK looked.
var errNoCredentials = &envelope.KMSError{Kind: envelope.KMSUnavailable, Err: errors.New("no AWS credentials: set AWS_ACCESS_KEY_ID and " +
	"AWS_SECRET_ACCESS_KEY, name a profile, or give the host a role")}
