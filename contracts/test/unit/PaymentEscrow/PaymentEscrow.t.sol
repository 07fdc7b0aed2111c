// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PaymentEscrowAddBond} from "./addBond.t.sol";
import {PaymentEscrowAllocate} from "./allocate.t.sol";
import {PaymentEscrowAuthorise} from "./authorise.t.sol";
import {PaymentEscrowBurn} from "./burn.t.sol";
import {PaymentEscrowCreditRefund} from "./creditRefund.t.sol";
import {PaymentEscrowDebit} from "./debit.t.sol";
import {PaymentEscrowDeposit} from "./deposit.t.sol";
import {PaymentEscrowDepositWithPermit} from "./depositWithPermit.t.sol";
import {PaymentEscrowOnboard} from "./onboard.t.sol";
import {PaymentEscrowPay} from "./pay.t.sol";
import {PaymentEscrowReclaim} from "./reclaim.t.sol";
import {PaymentEscrowRevokeLimit} from "./revokeLimit.t.sol";
import {PaymentEscrowSetLimit} from "./setLimit.t.sol";
import {PaymentEscrowStartBondWithdrawal} from "./startBondWithdrawal.t.sol";
import {PaymentEscrowStartWithdrawal} from "./startWithdrawal.t.sol";
import {PaymentEscrowWithdraw} from "./withdraw.t.sol";
import {PaymentEscrowWithdrawBond} from "./withdrawBond.t.sol";

/// @notice All of the contract's functions in one: a test contract costs seconds to compile.
contract PaymentEscrowTest is
    PaymentEscrowAddBond,
    PaymentEscrowAllocate,
    PaymentEscrowAuthorise,
    PaymentEscrowBurn,
    PaymentEscrowCreditRefund,
    PaymentEscrowDebit,
    PaymentEscrowDeposit,
    PaymentEscrowDepositWithPermit,
    PaymentEscrowOnboard,
    PaymentEscrowPay,
    PaymentEscrowReclaim,
    PaymentEscrowRevokeLimit,
    PaymentEscrowSetLimit,
    PaymentEscrowStartBondWithdrawal,
    PaymentEscrowStartWithdrawal,
    PaymentEscrowWithdraw,
    PaymentEscrowWithdrawBond
{}
