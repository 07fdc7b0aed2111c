// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DisputesAppeal} from "./appeal.t.sol";
import {DisputesCallOff} from "./callOff.t.sol";
import {DisputesCancel} from "./cancel.t.sol";
import {DisputesClaimFee} from "./claimFee.t.sol";
import {DisputesEscalate} from "./escalate.t.sol";
import {DisputesExecute} from "./execute.t.sol";
import {DisputesExpire} from "./expire.t.sol";
import {DisputesOpen} from "./open.t.sol";
import {DisputesPunish} from "./punish.t.sol";
import {DisputesSetParameters} from "./setParameters.t.sol";
import {DisputesVerdict} from "./verdict.t.sol";
import {DisputesWithdraw} from "./withdraw.t.sol";

/// @notice All of the contract's functions in one: a test contract costs seconds to compile.
contract DisputesTest is
    DisputesAppeal,
    DisputesCallOff,
    DisputesCancel,
    DisputesClaimFee,
    DisputesEscalate,
    DisputesExecute,
    DisputesExpire,
    DisputesOpen,
    DisputesPunish,
    DisputesSetParameters,
    DisputesVerdict,
    DisputesWithdraw
{}
