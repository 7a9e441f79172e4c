//! The eight commands of a TPM 2.0 that sealing takes, as octets, and what their responses hold. Pure.
//!
//! By hand, since it is so little: all numbers are big-endian, a *TPM2B* is octets behind a count of 16 bits. A command is a tag, its own length, a code, handles, of those
//! that need leave an area of authorisations behind its length, and parameters; a response is a tag, its length, a code, a handle if there is one, of those commands the
//! length of the parameters, and these (*TPM 2.0 Library*, part 1, 18; part 3).

/// `TPM_ST_NO_SESSIONS`, `TPM_ST_SESSIONS`.
const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;
/// `TPM_RH_OWNER`, `TPM_RH_NULL`, `TPM_RS_PW`.
const OWNER: u32 = 0x4000_0001;
const NOBODY: u32 = 0x4000_0007;
const PASSWORD: u32 = 0x4000_0009;
/// `TPM_ALG_*`.
const AES: u16 = 0x0006;
const KEYEDHASH: u16 = 0x0008;
const SHA256: u16 = 0x000b;
const NULL: u16 = 0x0010;
const ECC: u16 = 0x0023;
const CFB: u16 = 0x0043;
/// `TPM_ECC_NIST_P256`.
const P256: u16 = 0x0003;
/// Of the root key: fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, decrypt.
const ROOT_ATTRIBUTES: u32 = 0x0003_0472;
/// Of what is sealed: fixedTPM, fixedParent, noDA. Nobody opens it but by its policy, and who may not costs no lockout.
const SEALED_ATTRIBUTES: u32 = 0x0000_0412;
/// A PCR selection: three octets, bit 7 of the first one.
const PCR_7: [u8; 4] = [3, 0x80, 0, 0];
/// The session goes on until it is flushed.
const CONTINUES: u8 = 1;
/// What a caller adds to a session that authorises nothing by a key of its own: its length alone counts.
const NONCE: [u8; 16] = [0; 16];
const HEAD_OCTETS: usize = 10;

/// Of an object or a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle(u32);

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Session {
    /// To open something: `TPM_SE_POLICY`.
    Policy,
    /// To learn a policy: `TPM_SE_TRIAL`.
    Trial,
}

/// Why there is nothing in a response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// The owner's password was set, by another system.
    #[error("the TPM is owned by somebody else: its storage hierarchy has a password")]
    Owned,
    /// What it was given is not its own.
    #[error("this TPM did not seal the key: it is another one, or was cleared")]
    Foreign,
    /// PCR 7 is another.
    #[error("the machine's Secure Boot state (PCR 7) is not what it was when the key was sealed")]
    State,
    /// It takes no more guesses, from anybody.
    #[error("the TPM is locked out")]
    LockedOut,
    /// It says so.
    #[error("the TPM refuses, code {0:#x}")]
    Code(u32),
    /// It makes no sense.
    #[error("the TPM's answer makes no sense")]
    Senseless,
}

/// `TPM2_CreatePrimary` of the storage root key.
pub(super) fn create_primary() -> Vec<u8> {
    let root = [
        &words(&[ECC, SHA256])[..],
        &ROOT_ATTRIBUTES.to_be_bytes(),
        // No policy; what it keeps is under AES-128 in CFB; it signs nothing.
        &words(&[0, AES, 128, CFB, NULL, P256, NULL]),
        // Nothing of ours goes into the key.
        &words(&[0, 0]),
    ];
    let parameters = [sensitive(&[]), counted(&root.concat()), words(&[0]), 0_u32.to_be_bytes().to_vec()];
    command(0x131, &[OWNER], Some(PASSWORD), &parameters.concat())
}

/// `TPM2_Create` of a sealed object.
pub(super) fn create(root: Handle, policy: &[u8], secret: &[u8]) -> Vec<u8> {
    let object = [
        &words(&[KEYEDHASH, SHA256])[..],
        &SEALED_ATTRIBUTES.to_be_bytes(),
        &counted(policy),
        &words(&[NULL, 0]),
    ];
    let parameters =
        [sensitive(secret), counted(&object.concat()), words(&[0]), 0_u32.to_be_bytes().to_vec()];
    command(0x153, &[root.0], Some(PASSWORD), &parameters.concat())
}

/// `TPM2_Load`.
pub(super) fn load(root: Handle, private: &[u8], public: &[u8]) -> Vec<u8> {
    command(0x157, &[root.0], Some(PASSWORD), &[counted(private), counted(public)].concat())
}

/// `TPM2_StartAuthSession`, neither salted nor bound.
pub(super) fn start_session(session: Session) -> Vec<u8> {
    let kind = match session {
        Session::Policy => 1,
        Session::Trial => 3,
    };
    let parameters = [counted(&NONCE), words(&[0]), vec![kind], words(&[NULL, SHA256])];
    command(0x176, &[NOBODY, NOBODY], None, &parameters.concat())
}

/// `TPM2_PolicyPCR` of PCR 7 as it is.
pub(super) fn policy_pcr(session: Handle) -> Vec<u8> {
    let parameters = [words(&[0]), 1_u32.to_be_bytes().to_vec(), words(&[SHA256]), PCR_7.to_vec()];
    command(0x17f, &[session.0], None, &parameters.concat())
}

/// `TPM2_PolicyGetDigest`.
pub(super) fn policy_get_digest(session: Handle) -> Vec<u8> {
    command(0x189, &[session.0], None, &[])
}

/// `TPM2_Unseal`.
pub(super) fn unseal(object: Handle, session: Handle) -> Vec<u8> {
    command(0x15e, &[object.0], Some(session.0), &[])
}

/// `TPM2_FlushContext`.
pub(super) fn flush(handle: Handle) -> Vec<u8> {
    command(0x165, &[handle.0], None, &[])
}

/// Octets of the whole response, once enough of it has come to tell.
pub(super) fn length(begun: &[u8]) -> Option<usize> {
    let mut reader = Reader(begun);
    let (_, length) = (reader.word().ok()?, reader.long().ok()?);
    usize::try_from(length).ok()
}

/// What a response holds behind its head.
pub(super) fn answered(response: &[u8]) -> Result<&[u8], Refused> {
    let mut reader = Reader(response);
    let (_, length, code) = (reader.word()?, reader.long()?, reader.long()?);
    if length as usize != response.len() {
        return Err(Refused::Senseless);
    }
    if code == 0 {
        return response.get(HEAD_OCTETS..).ok_or(Refused::Senseless);
    }
    // Of format 1 (bit 7) the number is in six bits; the others tell which parameter, handle or session it was.
    let number = if code & 0x80 == 0 { code } else { code & 0xbf };
    Err(match number {
        // TPM_RC_AUTH_FAIL, TPM_RC_BAD_AUTH.
        0x8e | 0xa2 => Refused::Owned,
        // TPM_RC_INTEGRITY.
        0x9f => Refused::Foreign,
        // TPM_RC_POLICY_FAIL.
        0x9d => Refused::State,
        0x921 => Refused::LockedOut,
        _ => Refused::Code(code),
    })
}

/// The handle that a response begins with.
pub(super) fn handle(answer: &[u8]) -> Result<Handle, Refused> {
    Reader(answer).long().map(Handle)
}

/// The digest of `TPM2_PolicyGetDigest`.
pub(super) fn policy(answer: &[u8]) -> Result<Vec<u8>, Refused> {
    Reader(answer).counted().map(<[u8]>::to_vec)
}

/// Private and public part of `TPM2_Create`.
pub(super) fn created(answer: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Refused> {
    let mut reader = Reader(answer);
    reader.long()?;
    let private = reader.counted()?.to_vec();
    Ok((private, reader.counted()?.to_vec()))
}

/// The secret of `TPM2_Unseal`.
pub(super) fn unsealed<const N: usize>(answer: &[u8]) -> Result<[u8; N], Refused> {
    let mut reader = Reader(answer);
    reader.long()?;
    reader.counted()?.try_into().map_err(|_| Refused::Senseless)
}

fn command(code: u32, handles: &[u32], authorised_by: Option<u32>, parameters: &[u8]) -> Vec<u8> {
    let tag = if authorised_by.is_some() { SESSIONS } else { NO_SESSIONS };
    let mut body: Vec<u8> = handles.iter().flat_map(|handle| handle.to_be_bytes()).collect();
    if let Some(session) = authorised_by {
        // No nonce of ours, and no password or code behind it.
        let area = [&session.to_be_bytes()[..], &words(&[0]), &[CONTINUES], &words(&[0])].concat();
        body.extend(u32::try_from(area.len()).unwrap_or(u32::MAX).to_be_bytes());
        body.extend(area);
    }
    body.extend(parameters);
    let length = u32::try_from(HEAD_OCTETS + body.len()).unwrap_or(u32::MAX);
    [&tag.to_be_bytes()[..], &length.to_be_bytes(), &code.to_be_bytes(), &body].concat()
}

/// TPM2B_SENSITIVE_CREATE: no password, and what is to be kept.
fn sensitive(data: &[u8]) -> Vec<u8> {
    counted(&[words(&[0]), counted(data)].concat())
}

fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A TPM2B. What is longer than one counts is longer than any TPM takes; it refuses it.
fn counted(octets: &[u8]) -> Vec<u8> {
    [&u16::try_from(octets.len()).unwrap_or(u16::MAX).to_be_bytes()[..], octets].concat()
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Refused> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Refused::Senseless)?;
        self.0 = rest;
        Ok(taken)
    }

    fn word(&mut self) -> Result<u16, Refused> {
        self.take(2)?.try_into().map(u16::from_be_bytes).map_err(|_| Refused::Senseless)
    }

    fn long(&mut self) -> Result<u32, Refused> {
        self.take(4)?.try_into().map(u32::from_be_bytes).map_err(|_| Refused::Senseless)
    }

    fn counted(&mut self) -> Result<&'a [u8], Refused> {
        let count = self.word()?;
        self.take(usize::from(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    #[test]
    fn commands_are_the_octets_of_the_specification() {
        let (root, session, object) = (Handle(0x8000_0000), Handle(0x0300_0000), Handle(0x8000_0001));
        let password = "00000009400000090000010000";
        let table: [(&str, Vec<u8>, String); 8] = [
            (
                "create primary",
                create_primary(),
                format!(
                    "80020000004300000131{}{password}000400000000{}0000{}",
                    "40000001", "001a0023000b00030472000000060080004300100003001000000000", "00000000"
                ),
            ),
            (
                "create",
                create(root, &[0xaa; 4], &[0xbb; 2]),
                format!(
                    "80020000003d00000153{}{password}000600000002bbbb{}0000{}",
                    "80000000", "00120008000b000004120004aaaaaaaa00100000", "00000000"
                ),
            ),
            (
                "load",
                load(root, &[1, 2], &[3]),
                format!("80020000002200000157{}{password}000201020001{}", "80000000", "03"),
            ),
            (
                "session",
                start_session(Session::Policy),
                format!(
                    "80010000002b000001764000000740000007{}{}0000{}",
                    "0010",
                    "00".repeat(16),
                    "010010000b"
                ),
            ),
            ("pcr", policy_pcr(session), "80010000001a0000017f03000000000000000001000b03800000".to_owned()),
            ("digest", policy_get_digest(session), "80010000000e0000018903000000".to_owned()),
            (
                "unseal",
                unseal(object, session),
                "80020000001b0000015e8000000100000009030000000000010000".to_owned(),
            ),
            ("flush", flush(object), "80010000000e0000016580000001".to_owned()),
        ];
        for (name, command, expected) in table {
            assert_eq!(hex(&command), expected, "{name}");
            assert_eq!(command[2..6], u32::try_from(command.len()).unwrap().to_be_bytes(), "{name}");
        }
        assert_eq!(start_session(Session::Trial)[38], 3);
    }

    #[test]
    fn codes_are_told_in_words() {
        let response = |code: u32| [&[0x80, 1, 0, 0, 0, 10][..], &code.to_be_bytes()].concat();
        for (code, expected) in [
            // Of the first parameter, of the first session, of the first handle.
            (0x1df, Refused::Foreign),
            (0x99d, Refused::State),
            (0x9a2, Refused::Owned),
            (0x98e, Refused::Owned),
            (0x921, Refused::LockedOut),
            (0x101, Refused::Code(0x101)),
            (0x18b, Refused::Code(0x18b)),
        ] {
            assert_eq!(answered(&response(code)), Err(expected), "{code:#x}");
        }
        assert_eq!(answered(&response(0)), Ok(&[][..]));
    }

    #[test]
    fn a_response_that_is_cut_off_makes_no_sense() {
        let body = [&[0, 0, 0, 9][..], &[0, 3, 1, 2, 3, 0, 2, 8, 9]].concat();
        assert_eq!(created(&body), Ok((vec![1, 2, 3], vec![8, 9])));
        for length in 0..body.len() {
            assert_eq!(created(&body[..length]), Err(Refused::Senseless), "{length}");
        }
        assert_eq!(unsealed::<3>(&body), Ok([1, 2, 3]));
        assert_eq!(unsealed::<4>(&body), Err(Refused::Senseless));
        assert_eq!(handle(&[0x80, 0, 0]), Err(Refused::Senseless));
        assert_eq!(
            answered(&[0x80, 1, 0, 0, 0, 11, 0, 0, 0, 0]),
            Err(Refused::Senseless),
            "its length is another"
        );
        assert_eq!(answered(&[]), Err(Refused::Senseless));
    }
}
