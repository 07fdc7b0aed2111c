// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SettlementClaimVerifierPay} from "./claimVerifierPay.t.sol";
import {SettlementForfeit} from "./forfeit.t.sol";
import {SettlementRedeem} from "./redeem.t.sol";
import {SettlementRefund} from "./refund.t.sol";
import {SettlementRelease} from "./release.t.sol";
import {SettlementReleaseChecks} from "./releaseChecks.t.sol";
import {SettlementRollOver} from "./rollOver.t.sol";
import {SettlementSetParameters} from "./setParameters.t.sol";
import {SettlementSweep} from "./sweep.t.sol";

/// @notice All of the contract's functions in one: a test contract costs seconds to compile.
contract SettlementTest is
    SettlementClaimVerifierPay,
    SettlementRedeem,
    SettlementRefund,
    SettlementRelease,
    SettlementReleaseChecks,
    SettlementSetParameters,
    SettlementSweep,
    SettlementForfeit,
    SettlementRollOver
{}
