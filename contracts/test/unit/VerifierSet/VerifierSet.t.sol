// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {VerifierSetBuildSet} from "./buildSet.t.sol";
import {VerifierSetExit} from "./exit.t.sol";
import {VerifierSetDrawCommittee} from "./drawCommittee.t.sol";
import {VerifierSetPostDuties} from "./postDuties.t.sol";
import {VerifierSetRegister} from "./register.t.sol";
import {VerifierSetVerifyQuorum} from "./verifyQuorum.t.sol";
import {VerifierSetVerifySeat} from "./verifySeat.t.sol";

/// @notice All of the contract's functions in one: a test contract costs seconds to compile.
contract VerifierSetTest is
    VerifierSetBuildSet,
    VerifierSetExit,
    VerifierSetDrawCommittee,
    VerifierSetPostDuties,
    VerifierSetRegister,
    VerifierSetVerifyQuorum,
    VerifierSetVerifySeat
{}
